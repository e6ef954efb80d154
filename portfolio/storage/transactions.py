"""Inserts that ran before, and the end of the sessions in which they run."""

from __future__ import annotations

import logging

import pymongo
from pymongo.client_session import ClientSession
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from portfolio.scheduling import run_later

log = logging.getLogger(__name__)

DUPLICATE_KEY = 11000
_ABORT_TIMEOUT_S = 5.0


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


def end_session(session: ClientSession) -> None:
    """End a session; abort its open transaction in the background.

    A transaction that exceeded its deadline would stay open in the server for a minute, with its
    documents locked.
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

    run_later(0, abort)
