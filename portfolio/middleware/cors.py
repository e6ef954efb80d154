"""CORS: which pages of browsers may call the service."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
# What a page may read beside the headers that browsers always show.
_EXPOSED = ("Access-Control-Expose-Headers", "ETag, Link, Retry-After, X-Request-ID")
_PREFLIGHT_HEADERS = [
    ("Access-Control-Max-Age", "600"),
    ("Access-Control-Allow-Methods", ", ".join(_METHODS)),
]


def cors_headers(environ: WSGIEnvironment, allowed: Container[str]) -> list[tuple[str, str]]:
    """Return the headers that let the page of a browser call the service.

    There are none if its origin is not ``allowed``, which has them in lower case; ``*`` allows any,
    without credentials.
    """
    origin = environ["HTTP_ORIGIN"]
    if "*" in allowed:
        headers = [("Access-Control-Allow-Origin", "*"), _EXPOSED]
    elif origin.lower() in allowed:
        headers = [("Access-Control-Allow-Origin", origin), _EXPOSED, ("Vary", "Origin")]
    else:
        return []
    method = environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD", "").upper()
    if environ["REQUEST_METHOD"] == "OPTIONS" and method in _METHODS:
        headers += _PREFLIGHT_HEADERS
        if requested := environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS"):
            names = sorted(name.strip() for name in requested.split(","))
            headers.append(("Access-Control-Allow-Headers", ", ".join(names)))
    return headers
