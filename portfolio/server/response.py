"""Responses of the application, and error responses to requests that never reach it."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import orjson
from gunicorn import util
from gunicorn.http import errors, wsgi
from werkzeug.http import HTTP_STATUS_CODES

from portfolio.errors import code_for_status, error_body
from portfolio.middleware.request_context import request_id_for

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
# Formatting a date is slow, and it changes once a second.
_date = lru_cache(maxsize=1)(util.http_date)


class Response(wsgi.Response):  # type: ignore[misc]
    """A response that sends its headers and its body in one segment."""

    headers_sent: bool

    def default_headers(self) -> list[str]:
        """Return the status line and the headers of the connection, each with its line end."""
        major, minor = self.req.version
        lines = [
            f"HTTP/{major}.{minor} {self.status}\r\n",
            f"Server: {self.version}\r\n",
            f"Date: {_date(int(time.time()))}\r\n",
            f"Connection: {'close' if self.should_close() else 'keep-alive'}\r\n",
        ]
        if self.chunked:
            lines.append("Transfer-Encoding: chunked\r\n")
        return lines

    def write(self, arg: bytes) -> None:
        """Send a part of the body, and the headers before the first."""
        if self.headers_sent or self.response_length != len(arg) or self._omits_body:
            # Gunicorn warns of a body that it leaves out, and clients choose their methods.
            super().write(b"" if self._omits_body else arg)
            return
        lines = self.default_headers()
        lines += [f"{name}: {value}\r\n" for name, value in self.headers]
        self.headers_sent = True
        self.sent = len(arg)
        self.sock.sendall("".join([*lines, "\r\n"]).encode("latin-1") + arg)


def status_of(error: Exception) -> int:
    """Return the HTTP status for the exception that a connection failed with."""
    for kind, status in STATUSES.items():
        if isinstance(error, kind):
            return status
    if not isinstance(error, errors.ParseException):
        return 500
    return 501 if getattr(error, "hdr", None) in _OTHER_CODINGS else 400


def error_response(request: Any, status: int, common_headers: list[tuple[str, str]]) -> bytes:
    """Return the response to a request that never reaches the application.

    ``request`` is Gunicorn's; None if its head could not be parsed.
    """
    reason = HTTP_STATUS_CODES[status]
    detail = "Internal server error" if status == 500 else reason
    body = orjson.dumps(error_body(code_for_status(status), detail))
    given = dict(request.headers) if request is not None else {}
    headers = [
        ("Date", _date(int(time.time()))),
        *common_headers,
        ("X-Request-ID", request_id_for(given.get("X-REQUEST-ID", ""))),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
    head = "\r\n".join([*lines, "", ""]).encode()
    return head if request is not None and request.method == "HEAD" else head + body
