"""Bulks on a standalone, which has no transactions: what a failed insert has stored is deleted."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pymongo.errors import InvalidOperation, PyMongoError

from portfolio.errors import Unavailable
from portfolio.scheduling import run_later
from portfolio.storage.client import Database
from portfolio.storage.commands import insert_documents, insert_missing_documents
from portfolio.storage.documents import Document

log = logging.getLogger(__name__)

# An insert that timed out in a MongoDB that hangs may run after the delete that undoes it: only a
# later delete finds its documents.
_UNDO_TIMES = 3
_PAUSE_S = 1.0


class UndoableInsert:
    """Stores documents all or none, by deleting what was stored before a failure."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, documents: Sequence[Document]) -> None:
        """Store all documents, or undo the insert.

        Raises:
            PyMongoError: they were refused.
            Unavailable: an outage; the insert is undone later.
        """
        attempted = False

        def insert() -> None:
            nonlocal attempted
            attempted = True
            insert_documents(self._database, documents)

        try:
            self._database.run(insert, retry=False)
        except (PyMongoError, Unavailable) as error:
            if attempted:
                times = _UNDO_TIMES if isinstance(error, Unavailable) else 1
                self._undo(documents, times)
            raise

    def _undo(self, documents: Sequence[Document], times: int) -> None:
        try:
            self._database.run(lambda: self._delete_or_complete(documents), retry=True)
            times -= 1
        except InvalidOperation:
            return  # the worker is stopping and has closed its client
        except (PyMongoError, Unavailable) as error:
            log.error("bulk not yet undone", extra={"error": str(error), "count": len(documents)})
        if times:
            run_later(_PAUSE_S, lambda: self._undo(documents, times))

    def _delete_or_complete(self, documents: Sequence[Document]) -> None:
        """Delete the stored ones of ``documents``, or store all of them if one was updated since.

        Clients can read and update what was stored. An acknowledged update must not be lost, and
        the bulk must be whole.
        """
        portfolios = self._database.portfolios
        as_created = [{key: each[key] for key in ("_id", "version")} for each in documents]
        changed = {
            "_id": {"$in": [each["_id"] for each in documents]},
            "$nor": as_created,
        }
        if portfolios.find_one(changed) is None:
            portfolios.delete_many({"$or": as_created})
            if portfolios.find_one(changed) is None:
                return
        insert_missing_documents(self._database, documents)
