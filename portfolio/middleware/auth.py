"""Who may call: API keys."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from flask import Flask, g, request

from portfolio.errors import Unauthorized


def require_api_key(app: Flask, keys: Sequence[str]) -> None:
    """Let ``app`` refuse every ``/api/`` call that carries none of ``keys``.

    Of a call that carries one, ``g.caller`` is a digest of the key, fit to be stored.

    A key comes in ``X-API-Key`` or as a bearer token. Each is compared in constant time, and all
    of them always, so that an answer's time tells nothing of a key.
    """
    # As the environment gave them, valid UTF-8 or not.
    known = {key.encode("utf-8", "surrogateescape"): "" for key in keys}
    for key in known:
        known[key] = hashlib.sha256(b"portfolio caller\n" + key).hexdigest()

    def check() -> None:
        # A preflight request carries no credentials by design.
        if not request.path.startswith("/api/") or request.method == "OPTIONS":
            return
        given = request.headers.get("X-API-Key", "")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not given and scheme.lower() == "bearer":
            # Not strip(): the last byte of à is a space to Latin-1.
            given = token.strip(" \t")
        # WSGI hands bytes over as Latin-1. Those of most clients are UTF-8; browsers and Python's
        # own client write Latin-1, which is what the text then is.
        sent = given.encode("latin-1"), given.encode()
        matches = [
            caller
            for key, caller in known.items()
            for each in sent
            if hmac.compare_digest(each, key)
        ]
        if not matches:
            raise Unauthorized("A valid API key is required")
        g.caller = matches[0]

    app.before_request(check)
