"""How portfolios come to be stored: all of a bulk or none, and once however often it is tried.

Ids are made before the first attempt, so that trying again can't store a second portfolio. On a
replica set or a sharded cluster a transaction does the rest. A standalone has none: there, what
landed of a bulk is taken back, and a creation with an idempotency key is noted first and completed
by whoever finds the note.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import pymongo
from bson import ObjectId
from pymongo.client_session import ClientSession
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DuplicateKeyError,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
)

from portfolio.errors import Unavailable
from portfolio.models import IdempotencyKey, IdempotencyRecord, Portfolio
from portfolio.storage.client import READ_CONCERN, WRITE_CONCERN, Database
from portfolio.storage.documents import (
    Document,
    record_from_document,
    record_id,
    record_to_document,
    to_document,
)
from portfolio.storage.guard import error_codes

log = logging.getLogger(__name__)

# An insert that timed out may still be waiting in a MongoDB that hangs, and run beside the delete
# that is to undo it once MongoDB goes on: only a later delete finds what it left.
_UNDO_TIMES = 3
_PAUSE_S = 1.0
_ABORT_TIMEOUT_S = 5.0
_DUPLICATE_KEY = 11000
_WRITE_CONFLICT = 112


class KeyTakenError(Exception):
    """An idempotency key is in use by another creation."""


class PortfolioWriter:
    """Creations in MongoDB.

    Args:
        database: runs each call under the deadline, the breaker and the retry rule.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, portfolio: Portfolio) -> None:
        """Store one portfolio."""
        document = to_document(portfolio)
        attempts = _Attempts()

        def insert() -> None:
            with attempts:
                self._database.portfolios.insert_one(document)
            if attempts.landed and not self._confirm(document):
                raise _rolled_back()

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

        There is no transaction, which a killed client would leave open with its documents locked,
        and nothing is taken back: another client may have stored the same.
        """
        documents = _to_documents(portfolios)
        identities = [document["_id"] for document in documents]

        def insert() -> None:
            try:
                self._database.portfolios.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                if error_codes(error) != {_DUPLICATE_KEY}:
                    raise
                first = error.details["writeErrors"][0]["index"]
                if not self._confirm(documents[first]) or not self._has_all(identities):
                    raise _rolled_back() from error

        self._database.run(insert, retry=True)

    def insert_once(self, record: IdempotencyRecord) -> None:
        """Store the documents of ``record``, and the record itself.

        In a transaction where there are some. Else the record goes first: once it is stored, its
        documents will be too, if not by this call then by ``complete``, which may run any number
        of times.

        Raises:
            KeyTakenError: a record with this key is stored, or is just being stored.
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
        """Store those documents of ``record`` that are not, and note that all of them are."""

        def complete() -> None:
            self._insert_missing(_to_documents(record.portfolios))
            self._database.idempotency.update_one(
                {"_id": record_id(record.key)}, {"$set": {"done": True}}
            )

        self._database.run(complete, retry=True)

    def find_record(self, key: IdempotencyKey) -> IdempotencyRecord | None:
        """Return the record of the creation with this key, or None where no majority has one."""
        document = self._database.read(
            lambda: self._database.idempotency.find_one({"_id": record_id(key)})
        )
        return record_from_document(document, key) if document is not None else None

    def _insert_in_transaction(
        self, documents: Sequence[Document], record: IdempotencyRecord | None = None
    ) -> None:
        attempts = _Attempts()

        def insert() -> None:
            session = self._database.client.start_session()
            try:
                with attempts:
                    session.start_transaction(READ_CONCERN, WRITE_CONCERN)
                    if record is not None:
                        self._insert_record(record, session, rival=attempts.first)
                    self._database.portfolios.insert_many(documents, session=session)
                    session.commit_transaction()
            finally:
                _end(session)
            if attempts.landed and not self._confirm(documents[0]):
                # A record that stands without these documents belongs to a rival.
                raise _rolled_back() if record is None else KeyTakenError

        self._database.run(insert, retry=True)

    def _confirm(self, document: Document) -> bool:
        """Wait until a majority has what an earlier attempt stored; tell whether it is there.

        The duplicate key by which the attempt was recognised says so of one server alone. An
        update that changes nothing waits for all that the server had before it.
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
        rival: bool = True,
    ) -> None:
        try:
            self._database.idempotency.insert_one(record_to_document(record), session=session)
        except OperationFailure as error:
            # A conflict is what an insert meets whose rival has not committed yet; the rival of a
            # second attempt is the first.
            if rival and error.code in (_DUPLICATE_KEY, _WRITE_CONFLICT):
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
                return  # the worker ends and has closed its client
            except Unavailable:
                self._complete_later(record)

        _after(_PAUSE_S, attempt)

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
            return  # the worker ends and has closed its client
        except (PyMongoError, Unavailable) as error:
            log.error("bulk not yet undone", extra={"error": str(error), "count": len(documents)})
        if times:
            _after(_PAUSE_S, lambda: self._undo(documents, times))

    def _delete_or_complete(self, documents: Sequence[Document]) -> None:
        """Delete what landed of ``documents``, or store all of them where one was changed since.

        What was stored could be read and updated. An update that was acknowledged must not be
        lost, and the bulk must be whole.
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
            if error_codes(error) != {_DUPLICATE_KEY}:
                raise


class _Attempts:
    """Tells an earlier attempt that had landed after all from a document that was there before.

    Attributes:
        landed: whether the latest attempt met what an earlier one had stored.
    """

    def __init__(self) -> None:
        self._count = 0
        self.landed = False

    @property
    def first(self) -> bool:
        return self._count == 1

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        duplicate = isinstance(error, DuplicateKeyError | BulkWriteError) and (
            error_codes(error) == {_DUPLICATE_KEY}
        )
        self.landed = duplicate and not self.first
        return self.landed


def _to_documents(portfolios: Sequence[Portfolio]) -> list[Document]:
    return [to_document(portfolio) for portfolio in portfolios]


def _rolled_back() -> AutoReconnect:
    """Return the error that lets the guard try again."""
    return AutoReconnect("An earlier attempt was rolled back")


def _end(session: ClientSession) -> None:
    """End a session, and what it left open.

    A transaction that its deadline has cut off would stay open in the server for a minute, with its
    documents locked; nobody has to wait for its end.
    """
    if not session.in_transaction:
        session.end_session()
        return

    def abort() -> None:
        try:
            with pymongo.timeout(_ABORT_TIMEOUT_S):
                session.abort_transaction()
        except PyMongoError as error:
            log.warning("transaction not aborted", extra={"error": str(error)})
        finally:
            session.end_session()

    _after(0, abort)


def _after(seconds: float, task: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, task)
    timer.daemon = True
    timer.start()
