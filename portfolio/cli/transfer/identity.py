"""The ids of imported portfolios that bring none: the same however often a file is imported.

An id is made of the file's label, of what the row says, and of how many equal rows stand before it
in the file. So it does not depend on where the row stands, nor on any note of an earlier import.
"""

from __future__ import annotations

import hashlib

import orjson
from bson import ObjectId

from portfolio.models import PortfolioCreate

_DIGEST_BYTES = 8
_ID_BYTES = 12


class RowIdentities:
    """Gives the rows of one file their ids; to be asked for every row, in their order.

    It holds a digest of 8 bytes of each row that is not equal to an earlier one.

    Args:
        label: tells the rows of this file from equal rows of others.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._seen: set[int] = set()
        self._repeated: dict[int, int] = {}

    def next(self, row: PortfolioCreate) -> ObjectId:
        """Return the id of the next row of the file."""
        created = row.date_created.isoformat() if row.date_created else None
        content = orjson.dumps([self._label, row.name, created, row.version])
        occurrence = self._count(content)
        digest = hashlib.sha256(b"%b %d" % (content, occurrence)).digest()
        return ObjectId(digest[:_ID_BYTES])

    def _count(self, content: bytes) -> int:
        """Return how many rows with this content were counted before, and count it."""
        key = int.from_bytes(hashlib.sha256(content).digest()[:_DIGEST_BYTES])
        if key not in self._seen:
            self._seen.add(key)
            return 0
        self._repeated[key] = self._repeated.get(key, 0) + 1
        return self._repeated[key]
