"""API keys: which callers may use the API."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from flask import Flask, g, request

from portfolio.errors import Unauthorized


def require_api_key(app: Flask, keys: Sequence[str]) -> None:
    """Make ``app`` reject every ``/api/`` request that carries none of ``keys``.

    A key comes in ``X-API-Key`` or as a bearer token. Every key is compared, in constant time, so
    that timing reveals nothing. ``g.caller`` becomes a digest of the key, which may be stored.
    """
    # The environment may hold bytes that are not UTF-8.
    encoded = [key.encode("utf-8", "surrogateescape") for key in keys]
    known = {key: hashlib.sha256(b"portfolio caller\n" + key).hexdigest() for key in encoded}

    def check() -> None:
        # A preflight request carries no credentials by design.
        if not request.path.startswith("/api/") or request.method == "OPTIONS":
            return
        given = request.headers.get("X-API-Key", "")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not given and scheme.lower() == "bearer":
            # Not strip(): the last byte of à is a space to Latin-1.
            given = token.strip(" \t")
        # WSGI decodes headers as Latin-1. Most clients send UTF-8, but browsers and Python's own
        # client send Latin-1.
        sent = given.encode("latin-1"), given.encode()
        matches = [
            caller
            for key, caller in known.items()
            for each in sent
            if hmac.compare_digest(each, key)
        ]
        if not matches:
            raise Unauthorized
        g.caller = matches[0]

    app.before_request(check)
