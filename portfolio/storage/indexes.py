"""The indexes of the collections."""

from __future__ import annotations

import pymongo
from pymongo.collation import Collation
from pymongo.collection import Collection
from pymongo.operations import IndexModel

from portfolio.storage.documents import Document

# Equality without regard to case can use an index with this collation; a regular expression with
# option i would scan the index.
CASE_INSENSITIVE = Collation(locale="en", strength=2)
# The same without regard to spaces, wherever they are: only an index that ignores them all finds a
# name that was stored with spaces around it. Whoever reads by it compares what it finds.
IGNORING_SPACES = Collation(locale="en", strength=2, alternate="shifted", maxVariable="space")
PAGES_INDEX = "newest_first"
# The first two end with the order of pages, so that neither pages nor searches by name sort in
# memory. The first has the name too, so that a search for a substring reads keys alone.
INDEXES = (
    IndexModel([("dateCreated", -1), ("_id", -1), ("name", 1)], name=PAGES_INDEX),
    IndexModel(
        [("name", 1), ("dateCreated", -1), ("_id", -1)],
        name="name_case_insensitive",
        collation=CASE_INSENSITIVE,
    ),
    IndexModel([("name", 1)], name="name_ignoring_spaces", collation=IGNORING_SPACES),
)
# Idempotency keys are kept for a day.
_EXPIRE_KEYS = IndexModel([("created", 1)], name="expire", expireAfterSeconds=24 * 3600)
# A million documents are indexed in seconds; this only ends a build that hangs.
_TIMEOUT_S = 3600.0


def ensure_indexes(
    portfolios: Collection[Document], idempotency: Collection[Document]
) -> list[str]:
    """Create the missing indexes and return the names of those of ``portfolios``.

    Raises:
        PyMongoError: they can't be created.
    """
    with pymongo.timeout(_TIMEOUT_S):
        idempotency.create_indexes([_EXPIRE_KEYS])
        return portfolios.create_indexes(list(INDEXES))
