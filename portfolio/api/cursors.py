"""Cursors: where a page ended, as a text that clients carry.

A cursor is signed with a key that all pods share, together with the search that it belongs to. The
signature finds accidents and guesses. It proves nothing where ``CURSOR_SECRET`` is not set, so that
what a cursor holds is checked like any other input.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import bson
from bson import DatetimeMS, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.errors import BSONError
from itsdangerous import BadData, Signer, base64_decode, base64_encode

from portfolio.config import Settings
from portfolio.errors import BadRequest
from portfolio.models import Search, SortKey
from portfolio.storage.client import CODEC_OPTIONS

# What a stored date was ever found to be. A document or an array could be read as an operator.
_DATES = (
    *(datetime, DatetimeMS, str, int, float, bytes, ObjectId, Decimal128),
    *(Timestamp, Regex, MinKey, MaxKey, type(None)),
)


class Cursors:
    """Writes and reads cursors.

    Args:
        settings: has the secret; without one, the name of the database stands in for it, which
            all pods on that database have in common.
    """

    def __init__(self, settings: Settings) -> None:
        self._signer = Signer(
            settings.cursor_secret or settings.mongodb_db,
            salt="portfolio cursors",
            key_derivation="hmac",
            digest_method=hashlib.sha256,
        )

    def write(self, search: Search, after: SortKey) -> str:
        """Return the cursor for what lies beyond ``after``."""
        content = bson.encode(_names(search) | after._asdict())
        return self._signer.sign(base64_encode(content)).decode()

    def read(self, search: Search, cursor: str) -> SortKey | None:
        """Return where the page begins that ``cursor`` asks for; None is the start.

        Raises:
            BadRequest: the service has not written this cursor, or for another search.
        """
        if not cursor:
            return None
        try:
            content = bson.decode(base64_decode(self._signer.unsign(cursor)), CODEC_OPTIONS)
            after = _validate(content, search)
        except (BadData, BSONError, RecursionError, ValueError):
            raise BadRequest(
                "Invalid cursor: take nextCursor from the page before, for the same search"
            ) from None
        return after


def _validate(content: dict[str, Any], search: Search) -> SortKey:
    names = _names(search)
    if content.keys() != {*names, *SortKey._fields}:
        raise ValueError("fields are missing, or unknown")
    if any(content[field] != name for field, name in names.items()):
        raise ValueError("it belongs to another search")
    after = SortKey(content["created"], content["identity"])
    if not isinstance(after.created, _DATES) or not isinstance(after.identity, ObjectId):
        raise ValueError("a field is of a wrong type")
    return after


def _names(search: Search) -> dict[str, Any]:
    return {"name": search.name, "name_like": search.name_like}
