"""Idempotency keys: a client can retry a creation without creating a portfolio twice."""

from __future__ import annotations

import hashlib
import re

from flask import Request, g

from portfolio.errors import BadRequest
from portfolio.models import CreateResult, IdempotencyKey

_KEY = re.compile(r"[\x20-\x7e]{1,128}")


def idempotency_key(request: Request, *, unique: bool = False) -> IdempotencyKey | None:
    """Return the idempotency key of ``request``, or None.

    Two callers with different API keys never share a key. A trailing slash of the path does not
    matter, as in routing; whether names should be unique does, in whatever spelling.

    Raises:
        BadRequest: the key is empty, too long or unprintable.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise BadRequest("Idempotency-Key must have 1 to 128 printable characters")
    path = request.path.rstrip("/").encode() + (b"?unique=true" if unique else b"")
    digest = hashlib.sha256(path + b"\n" + request.get_data())
    return IdempotencyKey(key, digest.hexdigest(), g.get("caller"))


def replay_header(created: CreateResult) -> dict[str, str]:
    """Return the header that marks a replayed response."""
    return {"Idempotent-Replay": "true"} if created.replayed else {}
