"""Checks of request heads that Gunicorn's parser does not make."""

from __future__ import annotations

from typing import Any, NamedTuple

from gunicorn.http import errors

# The most bytes of a head, all lines together.
MAX_HEAD_BYTES = 16 * 1024


class Framing(NamedTuple):
    """How a request body is delimited: by length or by chunks; 0 and False mean no body."""

    length: int
    chunked: bool


class MissingHost(errors.ParseException):  # type: ignore[misc]
    """An HTTP/1.1 request without ``Host``."""


def check_head(request: Any) -> Framing:
    """Return how the body of ``request`` is delimited.

    Section 6 of the contract.

    Raises:
        ObsoleteFolding: a header is folded.
        UnsupportedTransferCoding: the transfer coding is not ``chunked``.
        MissingHost: it has no ``Host`` though it is HTTP/1.1.
    """
    length = 0
    coding = None
    has_host = request.version < (1, 1)
    for name, value in request.headers:
        if not name:
            # The C parser reads a folded line as a header without a name; a proxy may read it as
            # part of the previous one.
            raise errors.ObsoleteFolding("")
        if name == "HOST":
            has_host = True
        elif name == "CONTENT-LENGTH":
            length = int(value)
        elif name == "TRANSFER-ENCODING":
            coding = value if coding is None else f"{coding}, {value}"
    if coding is not None and coding.lower() != "chunked":
        raise errors.UnsupportedTransferCoding(coding)
    if not has_host:
        raise MissingHost("Host is missing")
    return Framing(length, coding is not None)


STATUSES: dict[type[Exception], int] = {
    errors.LimitRequestLine: 414,
    errors.LimitRequestHeaders: 431,
    errors.ExpectationFailed: 417,
    errors.ForbiddenProxyRequest: 403,
    errors.UnsupportedTransferCoding: 501,
    errors.ConfigurationProblem: 500,
    errors.InvalidResponseHeader: 500,
    errors.InvalidResponseHeaderName: 500,
}

# How Gunicorn's parsers report other transfer codings, if not by UnsupportedTransferCoding.
_OTHER_CODINGS = frozenset(
    {"TRANSFER-ENCODING", "Unsupported Transfer-Encoding", "Stacked chunked encoding"}
)


def status_of(error: Exception) -> int:
    """Return the HTTP status for the exception that a connection failed with."""
    for kind, status in STATUSES.items():
        if isinstance(error, kind):
            return status
    if not isinstance(error, errors.ParseException):
        return 500
    return 501 if getattr(error, "hdr", None) in _OTHER_CODINGS else 400
