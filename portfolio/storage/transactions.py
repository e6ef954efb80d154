"""Attempts at inserts, and the end of the sessions in which they run."""

from __future__ import annotations

import logging

import pymongo
from pymongo.client_session import ClientSession
from pymongo.errors import AutoReconnect, BulkWriteError, DuplicateKeyError, PyMongoError

from portfolio.scheduling import run_later
from portfolio.storage.guard import error_codes

log = logging.getLogger(__name__)

DUPLICATE_KEY = 11000
_ABORT_TIMEOUT_S = 5.0


class Attempts:
    """Detects that an earlier attempt had succeeded, by the duplicate key error of a later one.

    Attributes:
        landed: whether the latest attempt found what an earlier one had stored.
    """

    def __init__(self) -> None:
        self._count = 0
        self.landed = False

    @property
    def first(self) -> bool:
        """Whether the latest attempt is the first."""
        return self._count == 1

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        duplicate = isinstance(error, DuplicateKeyError | BulkWriteError) and (
            error_codes(error) == {DUPLICATE_KEY}
        )
        self.landed = duplicate and not self.first
        return self.landed


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
