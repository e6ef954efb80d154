"""CORS: which origins a browser lets call the service."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Flask, Response, request
from flask_cors.core import get_cors_options, set_cors_headers


def allow_origins(app: Flask, origins: Sequence[str]) -> None:
    """Let browsers call ``app`` from ``origins``; ``*`` is any, without credentials.

    Flask-CORS's own extension looks at every answer; only browsers send an ``Origin``, and services
    that call at a high rate are none.
    """
    options = get_cors_options(
        app,
        {
            "origins": list(origins),
            "send_wildcard": "*" in origins,
            "always_send": False,
            "max_age": 600,
        },
    )

    def add_headers(response: Response) -> Response:
        if "HTTP_ORIGIN" in request.environ:
            set_cors_headers(response, options)
        return response

    app.after_request(add_headers)
