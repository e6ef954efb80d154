"""Creation of portfolios: a bulk is stored whole or not at all, and once even if it is retried.

Ids are made before the first attempt, so that a retry can't store a second portfolio. Replica sets
and sharded clusters store a bulk in a transaction. A standalone has none: there, the stored part of
a failed bulk is deleted, and a creation with an idempotency key stores its record first, so that
any later request with the key can complete it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pymongo
from bson import ObjectId
from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError, InvalidOperation, OperationFailure, PyMongoError

from portfolio.errors import Unavailable
from portfolio.models import IdempotencyKey, IdempotencyRecord, Portfolio
from portfolio.scheduling import run_later
from portfolio.storage.batching import BatchLoader
from portfolio.storage.client import READ_CONCERN, WRITE_CONCERN, Database
from portfolio.storage.commands import (
    DUPLICATE_KEY,
    insert_documents,
    insert_missing_documents,
    is_stored,
    rolled_back,
)
from portfolio.storage.documents import (
    Document,
    record_from_document,
    record_id,
    record_to_document,
    to_document,
)
from portfolio.storage.guard import is_outage
from portfolio.storage.undo import UndoableInsert

log = logging.getLogger(__name__)

_PAUSE_S = 1.0
_ABORT_TIMEOUT_S = 5.0
_WRITE_CONFLICT = 112
# The most bulks in one transaction.
_MAX_BULKS = 16


# What one call stores as a whole; hashable.
Bulk = tuple[Portfolio, ...]


class KeyTakenError(Exception):
    """An idempotency key is in use by another creation."""


class PortfolioWriter:
    """Stores new portfolios.

    Concurrent calls share one acknowledged write: the wait for the journal and for a majority costs
    more than the documents do.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._undoable = UndoableInsert(database)
        self._singles = BatchLoader(self._insert_singles)
        self._bulks = BatchLoader(self._insert_bulks, max_keys=_MAX_BULKS)

    def insert(self, portfolio: Portfolio) -> None:
        """Store one portfolio."""
        refusal = self._singles.get(portfolio)
        if refusal is not None:
            raise refusal

    def insert_all(self, portfolios: Sequence[Portfolio]) -> None:
        """Store all portfolios or none: in a transaction, or by deleting what was stored."""
        if not self._database.has_transactions:
            self._undoable.insert(_to_documents(portfolios))
        elif not self._bulks.get(tuple(portfolios)):
            self._insert_in_transaction(_to_documents(portfolios))

    def insert_missing(self, portfolios: Sequence[Portfolio]) -> None:
        """Store those of ``portfolios`` whose ids are not stored; may run any number of times.

        It uses no transaction, which a killed client would leave open with its documents locked,
        and deletes nothing: another client may have stored the same.
        """
        documents = _to_documents(portfolios)
        identities = [document["_id"] for document in documents]

        def insert() -> None:
            stored = insert_missing_documents(self._database, documents)
            if stored and not (self._confirm(stored[0]) and self._has_all(identities)):
                raise rolled_back()

        self._database.run(insert, retry=True)

    def insert_once(self, record: IdempotencyRecord) -> None:
        """Store the portfolios of ``record``, and the record itself.

        Without transactions the record is stored first. From then on its portfolios will be stored
        too, by this call or by a later ``complete``.

        Raises:
            KeyTakenError: a record with this key is stored, or is being stored.
        """
        if self._database.has_transactions:
            documents = _to_documents(record.portfolios)
            self._insert_in_transaction(documents, record._replace(done=True))
            return
        self._database.run(lambda: self._insert_record(record), retry=False)
        try:
            self.complete(record)
        except PyMongoError:
            self._database.run(lambda: self._rollback(record), retry=True)
            raise
        except Unavailable:
            self._complete_later(record)
            raise

    def complete(self, record: IdempotencyRecord) -> None:
        """Store the missing portfolios of ``record`` and mark it done; can be repeated."""

        def complete() -> None:
            insert_missing_documents(self._database, _to_documents(record.portfolios))
            self._database.idempotency.update_one(
                {"_id": record_id(record.key)}, {"$set": {"done": True}}
            )

        self._database.run(complete, retry=True)

    def find_record(self, key: IdempotencyKey) -> IdempotencyRecord | None:
        """Return the record with this key, or None where no majority has one."""
        document = self._database.read(
            lambda: self._database.idempotency.find_one({"_id": record_id(key)})
        )
        return record_from_document(document, key) if document is not None else None

    def _insert_singles(self, portfolios: Sequence[Portfolio]) -> dict[Portfolio, PyMongoError]:
        """Store portfolios that are independent of each other; return why some were refused."""
        documents = _to_documents(portfolios)

        def insert() -> dict[Portfolio, PyMongoError]:
            refusals: dict[Portfolio, PyMongoError] = {}
            try:
                insert_documents(self._database, documents, ordered=False)
            except BulkWriteError as error:
                if is_outage(error):
                    raise
                for each in error.details["writeErrors"]:
                    refusal = BulkWriteError({"writeErrors": [each]})
                    if not is_stored(refusal):
                        refusals[portfolios[each["index"]]] = refusal
                    elif not self._confirm(documents[each["index"]]):
                        raise rolled_back() from error
            return refusals

        return self._database.run(insert, retry=True)

    def _insert_bulks(self, bulks: Sequence[Bulk]) -> dict[Bulk, bool]:
        """Store all bulks in one transaction; return those that were stored: all or none."""
        try:
            self._insert_in_transaction(_to_documents([each for bulk in bulks for each in bulk]))
        except PyMongoError:
            return {}  # one of the bulks was refused
        return dict.fromkeys(bulks, True)

    def _insert_in_transaction(
        self, documents: Sequence[Document], record: IdempotencyRecord | None = None
    ) -> None:
        first = True

        def insert() -> None:
            nonlocal first
            session = self._database.client.start_session()
            try:
                session.start_transaction(READ_CONCERN, WRITE_CONCERN)
                if record is not None:
                    detect_conflict, first = first, False
                    self._insert_record(record, session, detect_conflict=detect_conflict)
                insert_documents(self._database, documents, session=session)
                session.commit_transaction()
            except OperationFailure as error:
                if not is_stored(error):
                    raise
            else:
                return
            finally:
                _end_session(session)
            if not self._confirm(documents[0]):
                # A record without these documents belongs to a concurrent creation.
                raise rolled_back() if record is None else KeyTakenError

        self._database.run(insert, retry=True)

    def _confirm(self, document: Document) -> bool:
        """Wait until a majority has what an earlier attempt stored; tell whether it is there.

        The duplicate key error that reveals the attempt is about one server. An update that changes
        nothing waits until a majority has all that this server had before it.
        """
        same = {"_id": document["_id"]}
        return self._database.portfolios.update_one(same, {"$set": same}).matched_count == 1

    def _has_all(self, identities: list[ObjectId]) -> bool:
        filter = {"_id": {"$in": identities}}
        return self._database.portfolios.count_documents(filter) == len(identities)

    def _insert_record(
        self,
        record: IdempotencyRecord,
        session: ClientSession | None = None,
        *,
        detect_conflict: bool = True,
    ) -> None:
        try:
            self._database.idempotency.insert_one(record_to_document(record), session=session)
        except OperationFailure as error:
            # A write conflict means that the other insert has not been committed yet. On a retry
            # the other one may be this creation's own first attempt.
            if detect_conflict and error.code in (DUPLICATE_KEY, _WRITE_CONFLICT):
                raise KeyTakenError from None
            raise

    def _rollback(self, record: IdempotencyRecord) -> None:
        identities = [document["_id"] for document in _to_documents(record.portfolios)]
        self._database.portfolios.delete_many({"_id": {"$in": identities}})
        self._database.idempotency.delete_one({"_id": record_id(record.key)})

    def _complete_later(self, record: IdempotencyRecord) -> None:
        def attempt() -> None:
            try:
                self.complete(record)
            except InvalidOperation:
                return  # the worker is stopping and has closed its client
            except Unavailable:
                self._complete_later(record)

        run_later(_PAUSE_S, attempt)


def _to_documents(portfolios: Sequence[Portfolio]) -> list[Document]:
    return [to_document(portfolio) for portfolio in portfolios]


def _end_session(session: ClientSession) -> None:
    """End a session; abort its open transaction in the background.

    A transaction that exceeded its deadline would stay open in the server for a minute, with its
    documents locked.
    """

    def abort() -> None:
        try:
            with pymongo.timeout(_ABORT_TIMEOUT_S):
                session.abort_transaction()
        except PyMongoError as error:
            log.warning("transaction not aborted", extra={"error": str(error)})
        finally:
            session.end_session()

    if session.in_transaction:
        run_later(0, abort)
    else:
        session.end_session()
