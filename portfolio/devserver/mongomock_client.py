"""mongomock in the place of MongoDB, where no ``mongod`` can be had.

mongomock knows no database commands but ``ping`` and ignores collations; this adds the ones that
the repository sends. Transactions, deadlines and all that concerns several processes are lost.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import mongomock
from bson import MinKey


class MongomockClient(mongomock.MongoClient):  # type: ignore[type-arg]
    """A client whose data lives in this process alone and is gone with it."""

    # Options of MongoClient that mongomock does not know mean nothing to it either.
    def __init__(self, uri: str, **options: Any) -> None:
        super().__init__("localhost")

    @property
    def topology_description(self) -> Any:
        """A standalone."""
        server = SimpleNamespace(server_type_name="Standalone")
        return SimpleNamespace(
            topology_type_name="Single", server_descriptions=lambda: {"mongomock": server}
        )

    def get_database(  # type: ignore[override]
        self, name: str | None = None, **options: Any
    ) -> Any:
        """Return a database that knows the ``find`` command."""
        return _MongomockDatabase(super().get_database(name))


class _MongomockDatabase:
    def __init__(self, database: Any) -> None:
        self._database = database

    def __getitem__(self, name: str) -> Any:
        return _MongomockCollection(self._database[name])

    def command(self, command: str, collection: str = "", **options: Any) -> Any:
        if command == "count":
            return {"n": self._database[collection].estimated_document_count()}
        if command == "insert":
            self._database[collection].insert_many(options["documents"])
            return {}
        if command != "find":
            return self._database.command(command)
        cursor = self._database[collection].find(
            _fold(options["filter"], options.get("collation")), options.get("projection")
        )
        if "sort" in options:
            cursor = cursor.sort(list(options["sort"].items()))
        cursor = cursor.skip(options.get("skip", 0)).limit(options["limit"])
        return {"cursor": {"firstBatch": list(cursor)}}


class _MongomockCollection:
    def __init__(self, collection: Any) -> None:
        self._collection = collection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    def create_indexes(self, indexes: Any) -> list[str]:
        return [index.document["name"] for index in indexes]

    def count_documents(self, filter: dict[str, Any], collation: Any = None) -> int:
        return int(self._collection.count_documents(_fold(filter, collation)))


def _fold(filter: dict[str, Any], collation: Any) -> dict[str, Any]:
    """Say a filter in mongomock's terms: it knows patterns, but neither collations nor MinKey."""
    folded: dict[str, Any] = {}
    for field, wanted in filter.items():
        if field == "$or":
            folded[field] = [_fold(branch, collation) for branch in wanted]
        elif field == "name" and collation is not None:
            names = wanted["$in"] if isinstance(wanted, dict) else [wanted]
            pattern = "|".join(re.escape(name) for name in names)
            space = r"\s*" if collation.get("alternate") == "shifted" else ""
            folded[field] = re.compile(f"^{space}(?:{pattern}){space}$", re.IGNORECASE)
        elif wanted != {"$gte": MinKey()}:
            folded[field] = wanted
    return folded
