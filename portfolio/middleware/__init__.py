"""WSGI middleware around the Flask application."""
