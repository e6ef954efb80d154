"""Commands that are sent as such: PyMongo's helpers cost more, and retry where the guard does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.errors import AutoReconnect, BulkWriteError, OperationFailure

from portfolio.storage.client import COLLECTION, READ_CONCERN, WRITE_CONCERN, Database
from portfolio.storage.documents import CODEC_OPTIONS, Document
from portfolio.storage.guard import error_codes

DUPLICATE_KEY = 11000


def find_documents(
    database: Database, filter: Document, *, limit: int, **options: Any
) -> list[Document]:
    """Return up to ``limit`` documents of portfolios.

    Args:
        database: where they are stored.
        filter: what they match.
        limit: the most documents, at least 1.
        options: further fields of the command.

    Raises:
        Unavailable: MongoDB is known to be down, or an outage lasts until the deadline.
    """

    def find() -> list[Document]:
        reply = database.database.command(
            "find",
            COLLECTION,
            filter=filter,
            limit=limit,
            batchSize=limit,
            singleBatch=True,
            readConcern=READ_CONCERN.document,
            codec_options=CODEC_OPTIONS,
            **options,
        )
        return reply["cursor"]["firstBatch"]  # type: ignore[no-any-return]

    return database.read(find)


def insert_documents(
    database: Database,
    documents: Sequence[Document],
    *,
    session: ClientSession | None = None,
    ordered: bool = True,
) -> None:
    """Insert documents of portfolios; to be run by the guard.

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


def insert_missing_documents(database: Database, documents: Sequence[Document]) -> list[Document]:
    """Insert those of ``documents`` whose ids are not stored; to be run by the guard.

    Returns:
        those that were stored already.

    Raises:
        PyMongoError: documents were refused for another reason, or the command failed.
    """
    try:
        insert_documents(database, documents, ordered=False)
    except BulkWriteError as error:
        if error_codes(error) != {DUPLICATE_KEY}:
            raise
        return [documents[each["index"]] for each in error.details["writeErrors"]]
    return []


def is_stored(error: OperationFailure) -> bool:
    """Tell whether ``error`` says that a document with such an ``_id`` is stored.

    Ids are new, so an earlier attempt has stored it. Other unique indexes are an operator's.
    """
    details = error.details or {}
    reasons = details.get("writeErrors", [details])
    return all(
        reason.get("code") == DUPLICATE_KEY and reason.get("keyPattern") == {"_id": 1}
        for reason in reasons
    )


def rolled_back() -> AutoReconnect:
    """Return an error that makes the guard retry."""
    return AutoReconnect("An earlier attempt was rolled back")
