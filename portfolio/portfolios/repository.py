"""Every query that concerns portfolios, and no rule."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import pymongo
from bson import ObjectId
from pymongo import ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.cursor import Cursor
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError

from portfolio.database import CASE_INSENSITIVE, CODEC_OPTIONS, COLLECTION, Database, Document
from portfolio.errors import Unavailable
from portfolio.portfolios.model import (
    DEFAULT_VERSION,
    Change,
    Portfolio,
    Record,
    Search,
    Ticket,
    from_document,
)

log = logging.getLogger(__name__)

_FIELDS = {"name": 1, "dateCreated": 1, "version": 1}
_NEWEST_FIRST = {"dateCreated": -1, "_id": -1}
_STREAM_BATCH = 1000
# An insert that timed out may still be waiting in a MongoDB that hangs, and run beside the delete
# that is to undo it once MongoDB goes on: only a later delete finds what it left.
_UNDO_TIMES = 3
_PAUSE_S = 1.0
_DUPLICATE_KEY = 11000
_WRITE_CONFLICT = 112


class KeyTakenError(Exception):
    """An idempotency key is in use by another creation."""


class PortfolioRepository:
    """Portfolios in MongoDB.

    Reads of one page go out as plain ``find`` commands: PyMongo's cursor spends 80 of 200
    microseconds on sessions and bookkeeping that a single batch does not need, and its retry is
    made up for by the guard's.

    Args:
        database: runs each call under the deadline, the breaker and the retry rule.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, identity: ObjectId) -> Portfolio | None:
        """Return the portfolio with this id, or None."""
        found = self._find({"_id": identity}, limit=1)
        return found[0] if found else None

    def existing_ids(self, identities: Sequence[ObjectId]) -> set[ObjectId]:
        """Return those of ``identities`` that are stored."""
        filter = {"_id": {"$in": list(identities)}}
        documents = self._find_documents(filter, projection={"_id": 1}, limit=len(identities))
        return {document["_id"] for document in documents}

    def existing_names(self, names: Sequence[str]) -> list[str]:
        """Return the stored names that equal one of ``names``, without regard to case."""

        def distinct() -> list[str]:
            return self._database.portfolios.distinct(
                "name", {"name": {"$in": list(names)}}, collation=CASE_INSENSITIVE
            )

        return self._database.run(distinct, retry=True)

    def find(self, search: Search, limit: int) -> list[Portfolio]:
        """Return up to ``limit`` portfolios that match, newest first, from the search's offset."""
        return self._find(
            *self._criteria(search), sort=_NEWEST_FIRST, skip=search.offset, limit=limit
        )

    def count(self, search: Search) -> int:
        """Return how many portfolios match; without a name from the collection's own count."""
        filter, options = self._criteria(search)
        if search.name_like is not None:
            # Every name has to be looked at. Over 100,000 documents that takes 60 to 100 ms in the
            # order of storage, and 270 to 360 by the index that the planner would choose.
            options = {"hint": [("$natural", 1)]}
        collection = self._database.portfolios

        def count() -> int:
            if not filter:
                return collection.estimated_document_count()
            return collection.count_documents(filter, **options)

        return self._database.run(count, retry=True)

    def batches(self) -> Iterator[list[Portfolio]]:
        """Yield every portfolio in the order of insertion, in lists of up to a thousand.

        Each batch waits no longer than the socket's time-out; the whole has no deadline, since a
        server counts one against all batches of a cursor together.
        """

        def begin() -> tuple[Cursor[Document], list[Portfolio]]:
            cursor = self._database.portfolios.find({}, _FIELDS, batch_size=_STREAM_BATCH)
            cursor.sort([("$natural", 1)])
            return cursor, take(cursor)

        def take(cursor: Cursor[Document]) -> list[Portfolio]:
            with pymongo.timeout(None):
                return [from_document(document) for document in islice(cursor, _STREAM_BATCH)]

        cursor, batch = self._database.run(begin, retry=True)
        with cursor:
            while batch:
                yield batch
                batch = self._database.run(lambda: take(cursor), retry=False)

    def insert(self, document: Document) -> None:
        """Store ``document``, which carries its own id."""
        attempts = 0

        def insert() -> None:
            nonlocal attempts
            attempts += 1
            try:
                self._database.portfolios.insert_one(document)
            except DuplicateKeyError:
                if attempts == 1:
                    raise  # else an earlier attempt, thought to have failed, had landed

        self._database.run(insert, retry=True)

    def insert_all(self, documents: Sequence[Document]) -> None:
        """Store all of ``documents``, or none: by a transaction, or by taking back what landed."""
        if self._database.has_transactions:
            self._insert_in_transaction(documents)
        else:
            self._insert_or_undo(documents)

    def insert_once(self, record: Record) -> None:
        """Store the documents of ``record``, and the record itself.

        In a transaction where there are some. Else the record goes first: once it is stored, its
        documents will be too, if not by this call then by ``complete``, which may run any number
        of times.

        Raises:
            KeyTakenError: a record with this key is stored, or is just being stored.
        """
        if self._database.has_transactions:
            self._insert_in_transaction(record.documents, record._replace(done=True))
            return
        self._database.run(lambda: self._insert_record(record), retry=False)
        try:
            self.complete(record)
        except PyMongoError:
            self._database.run(lambda: self._forget(record), retry=True)
            raise
        except Unavailable:
            self._complete_later(record)
            raise

    def complete(self, record: Record) -> None:
        """Store those documents of ``record`` that are not, and note that all of them are."""

        def complete() -> None:
            try:
                self._database.portfolios.insert_many(record.documents, ordered=False)
            except BulkWriteError as error:
                faults = (error.details or {}).get("writeErrors", [])
                if any(fault["code"] != _DUPLICATE_KEY for fault in faults):
                    raise
            self._database.idempotency.update_one(
                {"_id": record.ticket.key}, {"$set": {"done": True}}
            )

        self._database.run(complete, retry=True)

    def recall(self, key: str) -> Record | None:
        """Return what is kept of the creation with this key, or None."""
        document = self._database.run(
            lambda: self._database.idempotency.find_one({"_id": key}), retry=True
        )
        if document is None:
            return None
        ticket = Ticket(key, document["fingerprint"])
        return Record(ticket, document["documents"], document["done"], document["created"])

    def update(self, change: Change, identity: ObjectId) -> Portfolio | None:
        """Apply ``change`` where its version is the stored one, in one operation.

        Returns:
            the portfolio as it is now, or None where id or version matched nothing.
        """
        values: Document = {"name": change.name, "version": change.version + 1}
        if change.date_created is not None:
            values["dateCreated"] = change.date_created

        def update() -> Document | None:
            return self._database.portfolios.find_one_and_update(
                _unchanged(identity, change.version),
                {"$set": values},
                projection=_FIELDS,
                return_document=ReturnDocument.AFTER,
            )

        document = self._database.run(update, retry=False)
        return from_document(document) if document else None

    def delete(self, identity: ObjectId, version: int) -> bool:
        """Delete where ``version`` is the stored one, in one operation; tell whether it was."""

        def delete() -> int:
            return self._database.portfolios.delete_one(_unchanged(identity, version)).deleted_count

        return self._database.run(delete, retry=False) == 1

    def _criteria(self, search: Search) -> tuple[Document, Document]:
        if search.name is not None:
            return {"name": search.name}, {"collation": CASE_INSENSITIVE.document}
        if search.name_like is not None:
            return {"name": {"$regex": re.escape(search.name_like), "$options": "i"}}, {}
        return {}, {}

    def _find(
        self, filter: Document, options: Document | None = None, **more: Any
    ) -> list[Portfolio]:
        documents = self._find_documents(filter, projection=_FIELDS, **(options or {}), **more)
        return [from_document(document) for document in documents]

    def _find_documents(self, filter: Document, *, limit: int, **options: Any) -> list[Document]:
        database = self._database

        def find() -> list[Document]:
            reply = database.database.command(
                "find",
                COLLECTION,
                filter=filter,
                limit=limit,
                batchSize=limit,
                singleBatch=True,
                codec_options=CODEC_OPTIONS,
                **options,
            )
            return reply["cursor"]["firstBatch"]  # type: ignore[no-any-return]

        return database.run(find, retry=True)

    def _insert_in_transaction(
        self, documents: Sequence[Document], record: Record | None = None
    ) -> None:
        def write(session: ClientSession) -> None:
            if record is not None:
                self._insert_record(record, session)
            self._database.portfolios.insert_many(documents, session=session)

        def insert() -> None:
            with self._database.client.start_session() as session:
                session.with_transaction(write)

        self._database.run(insert, retry=False)

    def _insert_record(self, record: Record, session: ClientSession | None = None) -> None:
        document = {
            "_id": record.ticket.key,
            "fingerprint": record.ticket.fingerprint,
            "documents": record.documents,
            "done": record.done,
            "created": record.created,
        }
        try:
            self._database.idempotency.insert_one(document, session=session)
        except OperationFailure as error:
            # A conflict is what an insert meets whose rival has not committed yet.
            if error.code in (_DUPLICATE_KEY, _WRITE_CONFLICT):
                raise KeyTakenError from None
            raise

    def _forget(self, record: Record) -> None:
        identities = [document["_id"] for document in record.documents]
        self._database.portfolios.delete_many({"_id": {"$in": identities}})
        self._database.idempotency.delete_one({"_id": record.ticket.key})

    def _complete_later(self, record: Record) -> None:
        def attempt() -> None:
            try:
                self.complete(record)
            except Unavailable:
                self._complete_later(record)

        _after_a_pause(attempt)

    def _insert_or_undo(self, documents: Sequence[Document]) -> None:
        attempted = False

        def insert() -> None:
            nonlocal attempted
            attempted = True
            self._database.portfolios.insert_many(documents)

        try:
            self._database.run(insert, retry=False)
        except (PyMongoError, Unavailable) as error:
            if attempted:
                times = _UNDO_TIMES if isinstance(error, Unavailable) else 1
                self._undo([document["_id"] for document in documents], times)
            raise

    def _undo(self, identities: list[ObjectId], times: int) -> None:
        filter = {"_id": {"$in": identities}}
        try:
            self._database.run(lambda: self._database.portfolios.delete_many(filter), retry=True)
            times -= 1
        except (PyMongoError, Unavailable) as error:
            log.error("bulk not yet undone", extra={"error": str(error), "count": len(identities)})
        if times:
            _after_a_pause(lambda: self._undo(identities, times))


def _after_a_pause(task: Callable[[], None]) -> None:
    timer = threading.Timer(_PAUSE_S, task)
    timer.daemon = True
    timer.start()


def _unchanged(identity: ObjectId, version: int) -> Document:
    """Match the portfolio, if ``version`` is the one that clients are shown."""
    shown: Any = {"$in": [version, None]} if version == DEFAULT_VERSION else version
    return {"_id": identity, "version": shown}
