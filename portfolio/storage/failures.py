"""What PyMongo's errors mean: whether MongoDB is away, and why, in a few words for operators."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from functools import partial
from typing import Any

from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from portfolio.redaction import redact_uri

_UNAUTHORIZED = 13
_AUTHENTICATION_FAILED = 18
# MongoDB's error codes that mean "not now"; all others mean "never".
_OUTAGES = frozenset(
    {
        6,  # HostUnreachable
        7,  # HostNotFound
        _AUTHENTICATION_FAILED,  # credentials are the operator's, never the caller's
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
_NO_LOGIN = "requires authentication"
# PyMongo appends them to the error of the operating system.
_TIMEOUTS = re.compile(r" \(configured timeouts:.*", re.DOTALL)
# MongoDB appends the command in full, with the values of the request in it.
_COMMAND = re.compile(r" to execute command \{.*", re.DOTALL)
_shorten = partial(textwrap.shorten, width=300, placeholder="…")


def is_outage(error: BaseException) -> bool:
    """Tell whether ``error`` means that MongoDB is down, overloaded or too slow."""
    # Only its first calls show PyMongo that a server is too old, or none for loadBalanced. And it
    # holds that a connection opened while its server recovered has no sessions.
    if isinstance(error, ConnectionFailure | ConfigurationError):
        return True
    if not isinstance(error, PyMongoError):
        return False
    transient = error.has_error_label("TransientTransactionError")
    return transient or error.timeout or not _OUTAGES.isdisjoint(_codes(error))


def is_forbidden(error: BaseException) -> bool:
    """Tell whether the user of ``MONGODB_URI`` lacks a right, so that no retry helps."""
    return isinstance(error, OperationFailure) and error.code == _UNAUTHORIZED


def is_logged_out(error: BaseException) -> bool:
    """Tell whether MongoDB asks for a login that the connection does not have."""
    return is_forbidden(error) and _NO_LOGIN in str(error)


def is_unreachable(error: BaseException) -> bool:
    """Tell whether ``error`` is about the connection or the login rather than the command."""
    if isinstance(error, OperationFailure):
        return error.code == _AUTHENTICATION_FAILED or is_forbidden(error)
    return isinstance(error, ConnectionFailure)


def location(uri: str) -> str:
    """Return the user and the hosts of ``uri``, with the password masked."""
    return redact_uri(uri).partition("?")[0].removesuffix("/")


def describe(error: BaseException) -> str:
    """Return the type and the text of ``error``, without a command and a server's whole reply."""
    reply = (isinstance(error, OperationFailure) and error.details) or {}
    failed = next(iter(reply.get("writeErrors", ())), reply)
    text = str(failed.get("errmsg") or error)
    return f"{type(error).__name__}: {_COMMAND.sub('', text)}"


def find_cause(error: BaseException, servers: Iterable[Any]) -> str:
    """Return why a command failed.

    Args:
        error: what PyMongo raised.
        servers: the ``ServerDescription`` of each server, which has the cause where no server could
            be selected.
    """
    if isinstance(error, OperationFailure):
        return _describe_refusal(error)
    causes = {cause: None for server in servers if (cause := _describe_server(server))}
    if causes:
        return _shorten("; ".join(causes))
    if isinstance(error, ServerSelectionTimeoutError):
        # The description of the topology follows.
        text = str(error).partition(", Timeout:")[0]
        if 'selector "Primary()"' in text:
            return "no server is the primary"
        if not text.endswith("found yet"):
            return _shorten(text)
    if isinstance(error, PyMongoError) and error.timeout:
        return "no answer in time"
    return _shorten(f"{type(error).__name__}: {error}")


def _codes(error: PyMongoError) -> set[Any]:
    if isinstance(error, BulkWriteError):
        details = error.details or {}
        reasons = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
        return {reason.get("code") for reason in reasons}
    return {error.code} if isinstance(error, OperationFailure) else set()


def _describe_refusal(error: OperationFailure) -> str:
    text = str((error.details or {}).get("errmsg") or error)
    if error.code == _AUTHENTICATION_FAILED:
        return f"wrong user or password ({_shorten(text)})"
    if error.code == _UNAUTHORIZED:
        if _NO_LOGIN in text:
            return "it asks for a user and a password"
        return f"the user lacks a right ({_shorten(_COMMAND.sub('', text))})"
    return _shorten(text)


def _describe_server(server: Any) -> str:
    if isinstance(server.error, NetworkTimeout):
        host, port = server.address
        return f"{host}:{port}: no answer in time"
    if isinstance(server.error, OperationFailure):
        return _describe_refusal(server.error)
    return _TIMEOUTS.sub("", str(server.error or ""))
