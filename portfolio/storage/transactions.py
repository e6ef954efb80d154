"""The end of the sessions of transactions."""

from __future__ import annotations

import logging

import pymongo
from pymongo.client_session import ClientSession
from pymongo.errors import PyMongoError

from portfolio.scheduling import run_later

log = logging.getLogger(__name__)

_ABORT_TIMEOUT_S = 5.0


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
