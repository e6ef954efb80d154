"""API keys: which callers may use the API."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from flask import Flask, g, request

from portfolio.errors import Unauthorized


def require_api_key(app: Flask, keys: Sequence[str]) -> None:
    """Make ``app`` reject every ``/api/`` request that carries none of ``keys``.

    A key comes in ``X-API-Key`` or as a bearer token. Digests of keys are compared, so that timing
    reveals nothing. ``g.caller`` becomes the digest of the key, which may be stored.
    """
    # The environment may hold bytes that are not UTF-8.
    known = {_digest(key.encode("utf-8", "surrogateescape")) for key in keys}

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
        for sent in (given.encode("latin-1"), given.encode()):
            if (caller := _digest(sent)) in known:
                g.caller = caller
                return
        raise Unauthorized

    app.before_request(check)


def _digest(key: bytes) -> str:
    return hashlib.sha256(b"portfolio caller\n" + key).hexdigest()
