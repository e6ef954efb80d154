"""Bulks on a standalone, which has no transactions, stored whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from pymongo.errors import InvalidOperation, PyMongoError

from portfolio.errors import Unavailable
from portfolio.models import IdempotencyRecord
from portfolio.scheduling import run_later
from portfolio.storage.database import Database
from portfolio.storage.documents import Document, record_id, to_documents
from portfolio.storage.inserts import insert_documents, insert_missing, insert_record

log = logging.getLogger(__name__)

# An insert that timed out in a MongoDB that hangs may run after the delete that undoes it: only a
# later delete finds its documents.
_UNDO_TIMES = 3
_PAUSE_S = 1.0


class StandaloneWriter:
    """Stores bulks: what a failed insert has stored is deleted.

    A creation with an idempotency key stores its record first instead. From then on its portfolios
    will be stored too, by its own call or by a later one.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert_all(self, documents: Sequence[Document]) -> None:
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
                self._repeat(lambda: self._undo(documents), times)
            raise

    def insert_once(self, record: IdempotencyRecord) -> None:
        """Store ``record`` and its portfolios.

        Raises:
            KeyTakenError: a record with this key is stored.
            PyMongoError: they were refused.
            Unavailable: an outage; if the record was stored, its portfolios are stored later.
        """
        self._database.run(lambda: insert_record(self._database, record), retry=False)
        try:
            self.complete(record)
        except PyMongoError:
            self._database.run(lambda: self._delete(record), retry=True)
            raise
        except Unavailable:
            run_later(_PAUSE_S, lambda: self._repeat(lambda: self._complete(record), 1))
            raise

    def complete(self, record: IdempotencyRecord) -> None:
        """Store the missing portfolios of ``record`` and mark it done; can be repeated."""
        self._database.run(lambda: self._complete(record), retry=True)

    def _complete(self, record: IdempotencyRecord) -> None:
        insert_missing(self._database, to_documents(record.portfolios))
        self._database.idempotency.update_one(
            {"_id": record_id(record.key)}, {"$set": {"done": True}}
        )

    def _delete(self, record: IdempotencyRecord) -> None:
        identities = [document["_id"] for document in to_documents(record.portfolios)]
        self._database.portfolios.delete_many({"_id": {"$in": identities}})
        self._database.idempotency.delete_one({"_id": record_id(record.key)})

    def _undo(self, documents: Sequence[Document]) -> None:
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
        insert_missing(self._database, documents)

    def _repeat(self, task: Callable[[], None], times: int) -> None:
        """Run ``task``, with a pause after each run, until it has succeeded ``times`` times."""
        try:
            self._database.run(task, retry=True)
            times -= 1
        except InvalidOperation:
            return  # the worker is stopping and has closed its client
        except (PyMongoError, Unavailable) as error:
            log.error("bulk not yet stored or undone", extra={"error": str(error)})
        if times:
            run_later(_PAUSE_S, lambda: self._repeat(task, times))
