"""Cursors: where a page ended, as a text that clients carry and can't change.

A cursor is signed with a key that all pods share, together with the search that it belongs to. It
opens nothing that the search would not, so that the signature is there to find accidents and
guesses, not to keep a secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

import bson

from portfolio.config import Settings
from portfolio.database import CODEC_OPTIONS
from portfolio.errors import BadRequest
from portfolio.portfolios.model import Position, Search

_SIGNATURE_BYTES = 16


class Cursors:
    """Writes and reads cursors.

    Args:
        settings: has the secret; without one, the name of the database stands in for it, which
            all pods on that database have in common.
    """

    def __init__(self, settings: Settings) -> None:
        secret = settings.cursor_secret or settings.mongodb_db
        self._key = hashlib.sha256(f"portfolio cursors\n{secret}".encode()).digest()

    def write(self, search: Search, position: Position) -> str:
        """Return the cursor for what lies beyond ``position``."""
        place = bson.encode(position._asdict())
        return base64.urlsafe_b64encode(self._sign(search, place) + place).decode().rstrip("=")

    def read(self, search: Search, cursor: str) -> Position | None:
        """Return where the page begins that ``cursor`` asks for; None is the start.

        Raises:
            BadRequest: the service has not written this cursor, or for another search.
        """
        if not cursor:
            return None
        try:
            data = base64.b64decode(
                cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True
            )
        except (binascii.Error, ValueError):
            raise _invalid() from None
        signature, place = data[:_SIGNATURE_BYTES], data[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._sign(search, place)):
            raise _invalid()
        return Position(**bson.decode(place, CODEC_OPTIONS))

    def _sign(self, search: Search, place: bytes) -> bytes:
        names = bson.encode({"name": search.name, "name_like": search.name_like})
        return hmac.digest(self._key, names + place, "sha256")[:_SIGNATURE_BYTES]


def _invalid() -> BadRequest:
    return BadRequest("Invalid cursor: take nextCursor from the page before, for the same search")
