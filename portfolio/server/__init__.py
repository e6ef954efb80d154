"""The Gunicorn worker: the only package that knows Gunicorn and gevent."""
