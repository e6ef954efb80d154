"""The ids of imported rows that have none: the same however often a file is imported.

An id is made from the label of the file, the content of the row, and the number of equal rows
before it. It depends neither on the row's line nor on any note.
"""

from __future__ import annotations

import hashlib

import orjson
from bson import ObjectId

from portfolio.models import PortfolioCreate


class RowIdentities:
    """Gives the rows of one file their ids; call ``next`` for every row, in order.

    It keeps a digest of 8 bytes of each distinct row.

    Args:
        label: tells the rows of this file from equal rows of others.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._seen: set[int] = set()
        self._repeated: dict[int, int] = {}  # apart, since most rows are not repeated

    def next(self, row: PortfolioCreate) -> ObjectId:
        """Return the id of the next row of the file."""
        created = row.date_created.isoformat() if row.date_created else None
        content = orjson.dumps([self._label, row.name, created, row.version])
        key = int.from_bytes(hashlib.sha256(content).digest()[:8])
        count = self._repeated.get(key, 0)
        if key in self._seen:
            count = self._repeated[key] = count + 1
        self._seen.add(key)
        return ObjectId(hashlib.sha256(b"%b %d" % (content, count)).digest()[:12])
