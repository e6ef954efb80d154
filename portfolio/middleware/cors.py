"""CORS: which origins a browser lets call the service."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
# Response headers that a page may read beside those that browsers always show.
_EXPOSED = "ETag, Link, Retry-After, X-Request-ID"
_MAX_AGE_S = 600


class CORSPolicy:
    """Which origins may call the service, and with what.

    Args:
        allowed: the origins, compared without regard to case; ``*`` is any, without credentials.
    """

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allows_any = "*" in allowed
        pattern = "|".join(map(re.escape, allowed))
        self._allowed = re.compile(pattern, re.ASCII | re.IGNORECASE)

    def headers(self, environ: WSGIEnvironment) -> list[tuple[str, str]]:
        """Return the CORS headers of the response to a request; none for other origins."""
        origin = environ.get("HTTP_ORIGIN", "")
        if not origin or not (self._allows_any or self._allowed.fullmatch(origin)):
            return []
        headers = [
            ("Access-Control-Allow-Origin", "*" if self._allows_any else origin),
            ("Access-Control-Expose-Headers", _EXPOSED),
        ]
        if environ["REQUEST_METHOD"] == "OPTIONS":
            headers += _preflight_headers(environ)
        if not self._allows_any:
            headers.append(("Vary", "Origin"))
        return headers


class CORSMiddleware:
    """Adds the CORS headers to responses to browsers; other clients send no ``Origin``.

    Args:
        app: the wrapped WSGI application.
        policy: which origins may call.
    """

    def __init__(self, app: WSGIApplication, policy: CORSPolicy) -> None:
        self._app = app
        self._policy = policy

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if "HTTP_ORIGIN" not in environ:
            return self._app(environ, start_response)
        cors_headers = self._policy.headers(environ)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, headers + cors_headers, exc_info)

        return self._app(environ, start)


def _preflight_headers(environ: WSGIEnvironment) -> list[tuple[str, str]]:
    if environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD", "").upper() not in _METHODS:
        return []
    headers = [
        ("Access-Control-Max-Age", str(_MAX_AGE_S)),
        ("Access-Control-Allow-Methods", ", ".join(_METHODS)),
    ]
    requested = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
    if requested:
        names = sorted(name.strip() for name in requested.split(","))
        headers.append(("Access-Control-Allow-Headers", ", ".join(names)))
    return headers
