"""What is changed inside Gunicorn."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from gunicorn.http import wsgi

# PRIVATE API: gunicorn==27.0.1, the stream for errors that each request is given. All requests may
# share one; a file object each, with the logger's locks, takes 1.5% of GET one.
wsgi.WSGIErrorsWrapper = lru_cache(maxsize=1)(wsgi.WSGIErrorsWrapper)


def cache_settings(config: Any) -> None:
    """Let the settings of ``config``, Gunicorn's, be plain attributes, which never change again.

    A setting is looked up by two calls, some thirty times a request.
    """
    # PRIVATE API: gunicorn==27.0.1, Config.settings and that Config has a __dict__. It takes 3% of
    # the CPU of GET one in a pod.
    config.__dict__.update({name: setting.get() for name, setting in config.settings.items()})
