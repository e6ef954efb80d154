"""The indexes of the collections."""

from __future__ import annotations

from pymongo.collation import Collation
from pymongo.operations import IndexModel

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
IDEMPOTENCY_INDEXES = (IndexModel([("created", 1)], name="expire", expireAfterSeconds=24 * 3600),)
