"""Why MongoDB does not answer, in a few words for operators."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pymongo.errors import (
    ConnectionFailure,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from portfolio.redaction import redact_uri

_AUTHENTICATION_FAILED = 18
_UNAUTHORIZED = 13
_MAX_LENGTH = 300
# PyMongo appends them to the error of the operating system.
_TIMEOUTS = re.compile(r" \(configured timeouts:.*", re.DOTALL)
# MongoDB appends the command in full.
_COMMAND = re.compile(r" to execute command \{.*", re.DOTALL)


def location(uri: str) -> str:
    """Return the user and the hosts of ``uri``, with the password masked."""
    return redact_uri(uri).partition("?")[0].removesuffix("/")


def is_unreachable(error: BaseException) -> bool:
    """Tell whether ``error`` is about the connection or the login rather than the command."""
    if isinstance(error, OperationFailure):
        return error.code in (_AUTHENTICATION_FAILED, _UNAUTHORIZED)
    return isinstance(error, ConnectionFailure)


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
        if not text.startswith("No servers found"):
            return _shorten(text)
    if isinstance(error, PyMongoError) and error.timeout:
        return "no answer in time"
    return _shorten(f"{type(error).__name__}: {error}")


def _describe_refusal(error: OperationFailure) -> str:
    text = str((error.details or {}).get("errmsg") or error)
    if error.code == _AUTHENTICATION_FAILED:
        return f"wrong user or password ({_shorten(text)})"
    if error.code == _UNAUTHORIZED:
        if "requires authentication" in text:
            return "it asks for a user and a password"
        return f"the user may not read the collection ({_shorten(_COMMAND.sub('', text))})"
    return _shorten(text)


def _describe_server(server: Any) -> str:
    if server.error is None:
        return ""
    if isinstance(server.error, NetworkTimeout):
        host, port = server.address
        return f"{host}:{port}: no answer in time"
    return _TIMEOUTS.sub("", str(server.error))


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 1] + "…"
