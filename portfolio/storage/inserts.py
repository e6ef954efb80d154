"""Inserts that can be repeated, since ids are made before the first attempt; run by the guard."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo.client_session import ClientSession
from pymongo.errors import AutoReconnect, BulkWriteError, OperationFailure

from portfolio.models import IdempotencyRecord
from portfolio.storage.connection import COLLECTION, WRITE_CONCERN
from portfolio.storage.database import Database
from portfolio.storage.documents import Document, record_to_document
from portfolio.storage.failures import is_outage

_DUPLICATE_KEY = 11000
_WRITE_CONFLICT = 112


class KeyTakenError(Exception):
    """An idempotency key is in use by another creation."""


def insert_documents(
    database: Database,
    documents: Sequence[Document],
    *,
    session: ClientSession | None = None,
    ordered: bool = True,
) -> None:
    """Insert documents of portfolios, by a command: PyMongo's helpers cost more.

    Args:
        database: where to store them.
        documents: what to store.
        session: in whose transaction; None for none.
        ordered: whether to stop at the first that is refused.

    Raises:
        BulkWriteError: documents were refused, or are not known to be on a majority.
        PyMongoError: any other failure.
    """
    options: Document = {"documents": documents, "ordered": ordered}
    if session is None:  # a transaction has its own
        options["writeConcern"] = WRITE_CONCERN.document
    reply = database.database.command("insert", COLLECTION, session=session, **options)
    errors = reply.get("writeErrors", [])
    concern_error = reply.get("writeConcernError")
    if errors or concern_error:
        concern_errors = [concern_error] if concern_error else []
        raise BulkWriteError({"writeErrors": errors, "writeConcernErrors": concern_errors})


def insert_each(database: Database, documents: Sequence[Document]) -> dict[int, BulkWriteError]:
    """Insert those of ``documents`` whose ids are not stored, independently of each other.

    Returns:
        why some were refused, by their position.

    Raises:
        PyMongoError: the command failed, or what it found stored was rolled back meanwhile.
    """
    refusals: dict[int, BulkWriteError] = {}
    stored: list[Document] = []
    try:
        insert_documents(database, documents, ordered=False)
    except BulkWriteError as error:
        if is_outage(error):
            raise
        for each in error.details["writeErrors"]:
            refusal = BulkWriteError({"writeErrors": [each]})
            if is_stored(refusal):
                stored.append(documents[each["index"]])
            else:
                refusals[each["index"]] = refusal
    if stored and not has_on_majority(database, stored):
        raise rolled_back()
    return refusals


def insert_missing(database: Database, documents: Sequence[Document]) -> None:
    """Insert those of ``documents`` whose ids are not stored.

    Raises:
        PyMongoError: one was refused, or as ``insert_each`` does.
    """
    for refusal in insert_each(database, documents).values():
        raise refusal


def insert_record(
    database: Database,
    record: IdempotencyRecord,
    session: ClientSession | None = None,
    *,
    detect_conflict: bool = True,
) -> None:
    """Insert an idempotency record.

    Args:
        database: where to store it.
        record: what to store.
        session: in whose transaction; None for none.
        detect_conflict: whether a stored record is another creation's. On a retry it may be that of
            the first attempt.

    Raises:
        KeyTakenError: a record with this key is stored, or is being stored.
        PyMongoError: any other failure.
    """
    try:
        database.idempotency.insert_one(record_to_document(record), session=session)
    except OperationFailure as error:
        # A write conflict means that the other insert has not been committed yet.
        if detect_conflict and error.code in (_DUPLICATE_KEY, _WRITE_CONFLICT):
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


def has_on_majority(database: Database, documents: Sequence[Document]) -> bool:
    """Wait until a majority has what an earlier attempt stored; tell whether all of it is there.

    The duplicate key error that reveals the attempt is about one server. An update that changes
    nothing waits until a majority has all that this server had before it.
    """
    same = {"_id": {"$in": [document["_id"] for document in documents]}}
    found = database.portfolios.update_many(same, {"$setOnInsert": {"version": 1}})
    return found.matched_count == len(documents)


def rolled_back() -> AutoReconnect:
    """Return an error that makes the guard retry."""
    return AutoReconnect("An earlier attempt was rolled back")
