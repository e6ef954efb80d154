"""CORS: which origins a browser lets call the service."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from flask import Flask, Response, request
from flask_cors.core import get_cors_headers, get_cors_options, set_cors_headers
from werkzeug.datastructures import Headers

# What a page may read of an answer, beside what every browser lets it.
_EXPOSED = ["ETag", "Link", "Retry-After", "X-Request-ID"]


class CORSPolicy:
    """Which origins a browser lets call the service.

    Args:
        app: the application.
        allowed: the origins, compared without regard to case; ``*`` is any, without credentials.
    """

    def __init__(self, app: Flask, allowed: Sequence[str]) -> None:
        self._options = get_cors_options(
            app,
            {
                "origins": [origin if origin == "*" else _exactly(origin) for origin in allowed],
                "send_wildcard": "*" in allowed,
                "always_send": False,
                "expose_headers": _EXPOSED,
                "max_age": 600,
            },
        )
        app.after_request(self._add_headers)

    def headers(self, method: str, asked: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return what an answer carries that the application is not asked for.

        Args:
            method: of the request.
            asked: the headers of the request, as pairs.
        """
        found = get_cors_headers(self._options, Headers(asked), method)
        return [(name, str(value)) for name, value in found.items()]

    def _add_headers(self, response: Response) -> Response:
        # Flask-CORS's own extension looks at every answer; only browsers send an Origin, and
        # services that call at a high rate are none.
        if "HTTP_ORIGIN" in request.environ:
            set_cors_headers(response, self._options)
        return response


def _exactly(origin: str) -> re.Pattern[str]:
    """Return what matches ``origin`` alone.

    Flask-CORS takes a text with brackets, as an IPv6 address has, for a regular expression that
    need not match up to the end.
    """
    return re.compile(re.escape(origin) + r"\Z", re.ASCII | re.IGNORECASE)
