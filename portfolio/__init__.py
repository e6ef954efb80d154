"""The GlobeCo Portfolio Service.

This package imports nothing, so that ``gunicorn.conf.py`` can patch the standard library before
anything else is loaded. ``portfolio.app`` holds the application factory.
"""

__version__ = "2.0.0"
