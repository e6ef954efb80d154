"""Creation of portfolios: a bulk is stored whole or not at all, and once even if it is retried.

Ids are made before the first attempt, so that a retry can't store a second portfolio. Replica sets
and sharded clusters store a bulk in a transaction. A standalone has none: there, the stored part of
a failed bulk is deleted, and a creation with an idempotency key stores its record first, so that
any later request with the key can complete it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from bson import ObjectId
from pymongo.client_session import ClientSession
from pymongo.errors import (
    BulkWriteError,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
)

from portfolio.errors import Unavailable
from portfolio.models import IdempotencyKey, IdempotencyRecord, Portfolio
from portfolio.scheduling import run_later
from portfolio.storage.client import READ_CONCERN, WRITE_CONCERN, Database
from portfolio.storage.documents import (
    Document,
    record_from_document,
    record_id,
    record_to_document,
    to_document,
)
from portfolio.storage.guard import error_codes
from portfolio.storage.transactions import DUPLICATE_KEY, Attempts, end_session, rolled_back

log = logging.getLogger(__name__)

# An insert that timed out in a MongoDB that hangs may run after the delete that undoes it: only a
# later delete finds its documents.
_UNDO_TIMES = 3
_PAUSE_S = 1.0
_WRITE_CONFLICT = 112


class KeyTakenError(Exception):
    """An idempotency key is in use by another creation."""


class PortfolioWriter:
    """Stores new portfolios."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, portfolio: Portfolio) -> None:
        """Store one portfolio."""
        document = to_document(portfolio)
        attempts = Attempts()

        def insert() -> None:
            with attempts:
                self._database.portfolios.insert_one(document)
            if attempts.landed and not self._confirm(document):
                raise rolled_back()

        self._database.run(insert, retry=True)

    def insert_all(self, portfolios: Sequence[Portfolio]) -> None:
        """Store all portfolios or none: in a transaction, or by deleting what was stored."""
        documents = _to_documents(portfolios)
        if self._database.has_transactions:
            self._insert_in_transaction(documents)
        else:
            self._insert_or_undo(documents)

    def insert_missing(self, portfolios: Sequence[Portfolio]) -> None:
        """Store those of ``portfolios`` whose ids are not stored; may run any number of times.

        It uses no transaction, which a killed client would leave open with its documents locked,
        and deletes nothing: another client may have stored the same.
        """
        documents = _to_documents(portfolios)
        identities = [document["_id"] for document in documents]

        def insert() -> None:
            try:
                self._database.portfolios.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                if error_codes(error) != {DUPLICATE_KEY}:
                    raise
                first = error.details["writeErrors"][0]["index"]
                if not self._confirm(documents[first]) or not self._has_all(identities):
                    raise rolled_back() from error

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
            self._insert_missing(_to_documents(record.portfolios))
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

    def _insert_in_transaction(
        self, documents: Sequence[Document], record: IdempotencyRecord | None = None
    ) -> None:
        attempts = Attempts()

        def insert() -> None:
            session = self._database.client.start_session()
            try:
                with attempts:
                    session.start_transaction(READ_CONCERN, WRITE_CONCERN)
                    if record is not None:
                        self._insert_record(record, session, detect_conflict=attempts.first)
                    self._database.portfolios.insert_many(documents, session=session)
                    session.commit_transaction()
            finally:
                end_session(session)
            if attempts.landed and not self._confirm(documents[0]):
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
        self._insert_missing(documents)

    def _insert_missing(self, documents: Sequence[Document]) -> None:
        try:
            self._database.portfolios.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            if error_codes(error) != {DUPLICATE_KEY}:
                raise


def _to_documents(portfolios: Sequence[Portfolio]) -> list[Document]:
    return [to_document(portfolio) for portfolio in portfolios]
