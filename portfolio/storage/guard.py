"""Deadline, circuit breaker and retry rule for database calls."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TypeVar

import pybreaker
import pymongo
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from portfolio.errors import DeadlineExceeded, Unavailable
from portfolio.storage.breaker import Breaker

log = logging.getLogger(__name__)

T = TypeVar("T")

# MongoDB's error codes that mean "not now"; all others mean "never".
_OUTAGES = frozenset(
    {
        6,  # HostUnreachable
        7,  # HostNotFound
        13,  # Unauthorized: credentials are the operator's, never the caller's
        18,  # AuthenticationFailed
        50,  # MaxTimeMSExpired
        64,  # WriteConcernFailed
        89,  # NetworkTimeout
        91,  # ShutdownInProgress
        100,  # UnsatisfiableWriteConcern
        112,  # WriteConflict
        189,  # PrimarySteppedDown
        202,  # NetworkInterfaceExceededTimeLimit
        251,  # NoSuchTransaction: aborted by a failover or a time-out
        262,  # ExceededTimeLimit
        9001,  # SocketException
        10107,  # NotWritablePrimary
        11600,  # InterruptedAtShutdown
        11602,  # InterruptedDueToReplStateChange
        13388,  # StaleConfig
        13435,  # NotPrimaryNoSecondaryOk
        13436,  # NotPrimaryOrSecondary
        14031,  # OutOfDiskSpace
    }
)
_NO_SESSIONS = "Sessions are not supported"
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0

# For calls outside requests: commands and background tasks.
_DEFAULT_BUDGET_S = 5.0

_deadline: ContextVar[float] = ContextVar("deadline")


@contextmanager
def budget(seconds: float) -> Iterator[None]:
    """Give the calls inside, with their retries and waits, a deadline in ``seconds``."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def time_left() -> float:
    """Return the seconds until the deadline, 0 once it has passed."""
    deadline = _deadline.get(0.0)
    return max(deadline - time.monotonic(), 0.0) if deadline else _DEFAULT_BUDGET_S


def is_outage(error: BaseException) -> bool:
    """Tell whether ``error`` means that MongoDB is down, overloaded or too slow."""
    if isinstance(error, ConnectionFailure):
        return True
    if isinstance(error, ConfigurationError):
        # PyMongo holds that a connection opened while its server recovered has no sessions. Another
        # connection has them, and nothing was sent over this one.
        return _NO_SESSIONS in str(error)
    if not isinstance(error, PyMongoError):
        return False
    transient = error.has_error_label("TransientTransactionError")
    return transient or error.timeout or bool(error_codes(error) & _OUTAGES)


def exceeded_deadline(error: BaseException) -> bool:
    """Tell whether ``error`` means that one call, or its wait for a connection, was too slow.

    That says nothing about MongoDB as long as other calls succeed. A failed server selection does.
    """
    return (
        isinstance(error, PyMongoError)
        and error.timeout
        and not isinstance(error, ServerSelectionTimeoutError)
    )


def error_codes(error: PyMongoError) -> set[int]:
    """Return MongoDB's error codes in ``error``."""
    if isinstance(error, BulkWriteError):
        details = error.details or {}
        reasons = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
        return {reason["code"] for reason in reasons if "code" in reason}
    return {error.code} if isinstance(error, OperationFailure) and error.code else set()


class Guard:
    """Runs database calls under the request's deadline, the breaker and the retry rule.

    Args:
        breaker: opens on outages; None where breakers are switched off.
        default_budget_s: seconds for a call outside any request.
    """

    def __init__(self, breaker: Breaker | None, default_budget_s: float) -> None:
        self.breaker = breaker
        self._default_budget_s = default_budget_s

    def call(self, operation: Callable[[], T], *, retry: bool) -> T:
        """Run ``operation`` and return what it returns.

        Args:
            operation: makes the PyMongo calls, which inherit the deadline.
            retry: whether ``operation`` may run again after an attempt of unknown outcome.
                Reads may, and inserts of documents that have ids.

        Raises:
            Unavailable: the breaker is open, or an outage lasts until the deadline.
            PyMongoError: any other failure.
        """
        deadline = _deadline.get(0.0) or time.monotonic() + self._default_budget_s
        try:
            if self.breaker is None:
                return _attempt(operation, deadline, retry)
            return self.breaker.call(partial(_attempt, operation, deadline, retry))
        except pybreaker.CircuitBreakerError:
            retry_after = self.breaker.retry_after if self.breaker else 1
            raise Unavailable("Database unavailable: circuit breaker open", retry_after) from None
        except PyMongoError as error:
            if not is_outage(error):
                raise
            log.warning("database call failed", extra={"error": f"{type(error).__name__}: {error}"})
            raise (
                DeadlineExceeded() if error.timeout else Unavailable("Database unavailable")
            ) from error


def _attempt(operation: Callable[[], T], deadline: float, retry: bool) -> T:
    pause = _FIRST_PAUSE_S
    while True:
        try:
            # At least 1 ms: PyMongo reads 0 as "no limit", and a passed deadline must time out.
            with pymongo.timeout(max(deadline - time.monotonic(), 0.001)):
                return operation()
        except PyMongoError as error:
            wait = pause * random.uniform(0.5, 1.0)
            if not retry or not is_outage(error) or time.monotonic() + wait >= deadline:
                raise
        time.sleep(wait)
        pause = min(pause * 2, _LONGEST_PAUSE_S)
