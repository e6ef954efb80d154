"""Sends OTLP to a collector over plain HTTP, by the standard library alone."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException, HTTPMessage
from typing import NamedTuple
from urllib.parse import urlsplit

# Read before the connection is closed, so that it is not reset.
_MAX_BODY_BYTES = 64 * 1024


class Result(NamedTuple):
    """The head of a response, or the error in its place."""

    status_code: int | None = None
    reason: str | None = None
    error: Exception | None = None
    fields: HTTPMessage = HTTPMessage()

    def headers(self) -> HTTPMessage:
        """Return the headers, under names in any case."""
        return self.fields


class HTTPTransport:
    """Sends requests, each over its own connection.

    It takes the place of OpenTelemetry's ``BaseHTTPTransport``.
    """

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
        data: bytes | None = None,
    ) -> Result:
        """Send a request and return what came of it.

        Args:
            method: the HTTP method.
            url: begins with ``http://``.
            headers: beside ``Host`` and ``Content-Length``.
            timeout: seconds that each wait for the collector may take.
            data: the body.
        """
        parts = urlsplit(url)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
        try:
            connection.request(method, target, data, headers or {})
            response = connection.getresponse()
            response.read(_MAX_BODY_BYTES)
            return Result(response.status, response.reason, None, response.headers)
        except (OSError, HTTPException) as error:
            return Result(error=error)
        finally:
            connection.close()

    def is_connection_error(self, error: Exception | None) -> bool:
        """Return whether ``error`` is one that ``request`` returns."""
        return error is not None

    def close(self) -> None:
        """Do nothing: no connection outlives its request."""
