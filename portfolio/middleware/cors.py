"""CORS: which origins a browser lets call the service."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
# Response headers that a page may read beside those that browsers always show.
_EXPOSED = "ETag, Link, Retry-After, X-Request-ID"
_PREFLIGHT = [
    ("Access-Control-Max-Age", "600"),
    ("Access-Control-Allow-Methods", ", ".join(_METHODS)),
]


class CORSMiddleware:
    """Adds the CORS headers to responses to browsers; other clients send no ``Origin``.

    Origins are compared without regard to case; ``*`` allows any, without credentials.
    """

    def __init__(self, app: WSGIApplication, allowed: Sequence[str]) -> None:
        self._app = app
        self._allows_any = "*" in allowed
        self._allowed = {origin.lower() for origin in allowed}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        origin = environ.get("HTTP_ORIGIN", "")
        if not origin or not (self._allows_any or origin.lower() in self._allowed):
            return self._app(environ, start_response)
        cors_headers = [
            ("Access-Control-Allow-Origin", "*" if self._allows_any else origin),
            ("Access-Control-Expose-Headers", _EXPOSED),
        ]
        if environ["REQUEST_METHOD"] == "OPTIONS":
            cors_headers += _preflight_headers(environ)
        if not self._allows_any:
            cors_headers.append(("Vary", "Origin"))

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, headers + cors_headers, exc_info)

        return self._app(environ, start)


def _preflight_headers(environ: WSGIEnvironment) -> list[tuple[str, str]]:
    if environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD", "").upper() not in _METHODS:
        return []
    requested = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
    if not requested:
        return _PREFLIGHT
    names = sorted(name.strip() for name in requested.split(","))
    return [*_PREFLIGHT, ("Access-Control-Allow-Headers", ", ".join(names))]
