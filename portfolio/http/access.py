"""Who may call: API keys."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from flask import Flask, request

from portfolio.errors import Unauthorized


def require_api_key(app: Flask, keys: Sequence[str]) -> None:
    """Let ``app`` refuse every ``/api/`` call that carries none of ``keys``.

    A key comes in ``X-API-Key`` or as a bearer token. Each is compared in constant time, and all
    of them always, so that an answer's time tells nothing of a key.
    """
    known = [key.encode() for key in keys]

    def check() -> None:
        # A preflight request carries no credentials by design.
        if not request.path.startswith("/api/") or request.method == "OPTIONS":
            return
        given = request.headers.get("X-API-Key", "")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not given and scheme.lower() == "bearer":
            given = token.strip()
        candidate = given.encode("utf-8", "surrogateescape")
        matches = [hmac.compare_digest(candidate, key) for key in known]
        if not any(matches):
            raise Unauthorized("A valid API key is required")

    app.before_request(check)
