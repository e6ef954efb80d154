"""Inserts that can be repeated, since ids are made before the first attempt, or undone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from bson import ObjectId
from pymongo.client_session import ClientSession
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
)

from portfolio.errors import Unavailable
from portfolio.models import IdempotencyRecord, Portfolio
from portfolio.scheduling import run_later
from portfolio.storage.connection import COLLECTION, WRITE_CONCERN
from portfolio.storage.database import Database
from portfolio.storage.documents import Document, record_id, record_to_document, to_document
from portfolio.storage.failures import is_outage

log = logging.getLogger(__name__)

_DUPLICATE_KEY = 11000
_WRITE_CONFLICT = 112
# An insert that timed out in a MongoDB that hangs may run after the delete that undoes it: only a
# later delete finds its documents.
_UNDO_TIMES = 3
_PAUSE_S = 1.0


class KeyTakenError(Exception):
    """An idempotency key is in use by another creation."""


def insert(
    database: Database,
    portfolios: Sequence[Portfolio],
    *,
    session: ClientSession | None = None,
    ordered: bool = True,
) -> None:
    """Insert portfolios, by a command: PyMongo's helpers cost more.

    Raises:
        BulkWriteError: some were refused, or are not known to be on a majority. If they are
            ``ordered``, those after the first refused one were not tried.
        PyMongoError: any other failure.
    """
    options: Document = {"documents": list(map(to_document, portfolios)), "ordered": ordered}
    if session is None:  # a transaction has its own
        options["writeConcern"] = WRITE_CONCERN.document
    reply = database.database.command("insert", COLLECTION, session=session, **options)
    errors = reply.get("writeErrors", [])
    concern_error = reply.get("writeConcernError")
    if errors or concern_error:
        concern_errors = [concern_error] if concern_error else []
        raise BulkWriteError({"writeErrors": errors, "writeConcernErrors": concern_errors})


def insert_each(
    database: Database, portfolios: Sequence[Portfolio]
) -> dict[Portfolio, BulkWriteError]:
    """Insert those of ``portfolios`` whose ids are not stored; return why others were refused.

    Raises:
        PyMongoError: the command failed, or what it found stored was rolled back meanwhile.
    """
    refusals: dict[Portfolio, BulkWriteError] = {}
    stored: list[Portfolio] = []
    try:
        insert(database, portfolios, ordered=False)
    except BulkWriteError as error:
        if is_outage(error):
            raise
        for each in error.details["writeErrors"]:
            portfolio = portfolios[each["index"]]
            refusal = BulkWriteError({"writeErrors": [each]})
            if is_stored(refusal):
                stored.append(portfolio)
            else:
                refusals[portfolio] = refusal
    if stored:
        await_majority(database, stored)
    return refusals


def insert_missing(database: Database, portfolios: Sequence[Portfolio]) -> None:
    """Insert those of ``portfolios`` whose ids are not stored, or raise one of the refusals."""
    for refusal in insert_each(database, portfolios).values():
        raise refusal


def insert_record(
    database: Database, record: IdempotencyRecord, session: ClientSession | None = None
) -> None:
    """Insert ``record``; raise KeyTakenError if one with its key is stored, or being stored."""
    try:
        database.idempotency.insert_one(record_to_document(record), session=session)
    except OperationFailure as error:
        # A write conflict means that the other insert has not been committed yet.
        if error.code in (_DUPLICATE_KEY, _WRITE_CONFLICT):
            raise KeyTakenError from None
        raise


def is_stored(error: OperationFailure) -> bool:
    """Tell whether ``error`` says that a document with such an ``_id`` is stored.

    Ids are new, so an earlier attempt has stored it. Other unique indexes are an operator's.
    """
    details = error.details or {}
    reasons = details.get("writeErrors", [details])
    return all(
        reason.get("code") == _DUPLICATE_KEY and reason.get("keyPattern") == {"_id": 1}
        for reason in reasons
    )


def await_majority(database: Database, portfolios: Sequence[Portfolio]) -> None:
    """Wait until a majority has what an earlier attempt stored.

    The duplicate key error that reveals the attempt is about one server. An update that changes
    nothing waits until a majority has all that this server had before it.

    Raises:
        AutoReconnect: a failover has undone the attempt, which is to be repeated.
    """
    same = {"_id": {"$in": [ObjectId(portfolio.id) for portfolio in portfolios]}}
    found = database.portfolios.update_many(same, {"$setOnInsert": {"version": 1}})
    if found.matched_count < len(portfolios):
        raise AutoReconnect("An earlier attempt was rolled back")


class StandaloneWriter:
    """Stores bulks whole or not at all on a standalone, which has no transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert_all(self, portfolios: Sequence[Portfolio]) -> None:
        """Store all portfolios, or delete what a failed insert has stored; if need be, later."""
        attempted = False

        def attempt() -> None:
            nonlocal attempted
            attempted = True
            insert(self._database, portfolios)

        try:
            self._database.run("insert", attempt, retry=False)
        except (PyMongoError, Unavailable) as error:
            if attempted:
                times = _UNDO_TIMES if isinstance(error, Unavailable) else 1
                self._repeat("delete", lambda: self._undo(portfolios), times)
            raise

    def insert_once(self, record: IdempotencyRecord) -> None:
        """Store ``record``, then its portfolios; if need be, later or by another request.

        Raises KeyTakenError if a record with this key is stored.
        """
        self._database.run("insert", lambda: insert_record(self._database, record), retry=False)
        try:
            self._database.run("insert", lambda: self.complete(record), retry=True)
        except PyMongoError:
            self._database.run("delete", lambda: self._undo_record(record), retry=True)
            raise
        except Unavailable:
            run_later(_PAUSE_S, lambda: self._repeat("insert", lambda: self.complete(record), 1))
            raise

    def complete(self, record: IdempotencyRecord) -> None:
        """Store the missing portfolios of ``record`` and mark it done; may run again."""
        insert_missing(self._database, record.portfolios)
        self._database.idempotency.update_one(
            {"_id": record_id(record.key)}, {"$set": {"done": True}}
        )

    def _undo_record(self, record: IdempotencyRecord) -> None:
        self._undo(record.portfolios)
        self._database.idempotency.delete_one({"_id": record_id(record.key)})

    def _undo(self, portfolios: Sequence[Portfolio]) -> None:
        """Delete the stored ones of ``portfolios``, or store all if one was updated since.

        Clients can read and update what was stored. An acknowledged update must not be lost, and
        the bulk must be whole.
        """
        stored = self._database.portfolios
        as_created = [{"_id": ObjectId(each.id), "version": each.version} for each in portfolios]
        changed = {"_id": {"$in": [each["_id"] for each in as_created]}, "$nor": as_created}
        if stored.find_one(changed) is None:
            stored.delete_many({"$or": as_created})
            if stored.find_one(changed) is None:
                return
        insert_missing(self._database, portfolios)

    def _repeat(self, name: str, task: Callable[[], None], times: int) -> None:
        """Run ``task``, with a pause after each run, until it has succeeded ``times`` times."""
        try:
            self._database.run(name, task, retry=True)
            times -= 1
        except InvalidOperation:
            return  # the worker is stopping and has closed its client
        except (PyMongoError, Unavailable) as error:
            log.error("bulk not yet stored or undone", extra={"error": str(error)})
        if times:
            run_later(_PAUSE_S, lambda: self._repeat(name, task, times))
