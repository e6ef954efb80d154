"""A client's socket on which no call waits longer than it may."""

from __future__ import annotations

import time
from typing import Any

# A part of a response has this long to leave, however slowly the client reads.
IO_TIMEOUT_S = 10.0

# What one call receives at most. Gunicorn asks for up to a mebibyte at once and keeps what it does
# not need yet: memory that nobody has counted.
_MAX_RECEIVE_BYTES = 8 * 1024


class DeadlineExceeded(Exception):
    """The client did not send in time."""


class AllowanceExceeded(Exception):
    """The client sent more than it may."""


class DeadlineSocket:
    """The socket of one connection, with a deadline that every ``recv`` counts against.

    It bounds its waits by socket timeouts, in the greenlet that waits: there is nothing that could
    reach this greenlet at any other point.

    Args:
        client: the gevent socket.

    Attributes:
        deadline: until when ``recv`` waits, on the monotonic clock, in seconds.
        allowance: bytes that ``recv`` may still receive.
        blocked_since: when a send began to wait for the client; None while none does.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.deadline = 0.0
        self.allowance = 0
        self.blocked_since: float | None = None

    def recv(self, size: int) -> bytes:
        """Return up to ``size`` bytes; none where the client has ended its side.

        What has come in is returned even after the deadline: the worker may have stood still.

        Raises:
            DeadlineExceeded: nothing came before the deadline.
            AllowanceExceeded: more came than the allowance.
        """
        client = self._client
        while True:
            client.settimeout(max(self.deadline - time.monotonic(), 0.0))
            try:
                data: bytes = client.recv(min(size, _MAX_RECEIVE_BYTES))
            except BlockingIOError:
                raise DeadlineExceeded from None
            except TimeoutError:
                continue  # once more, without waiting
            self.allowance -= len(data)
            if self.allowance < 0:
                raise AllowanceExceeded
            return data

    def sendall(self, data: bytes) -> None:
        """Send ``data``, nearly always at once: a client that reads leaves room in the buffer.

        Raises:
            TimeoutError: the client did not read in time.
        """
        client = self._client
        client.settimeout(0.0)
        try:
            sent = client.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self.blocked_since = time.monotonic()
            client.settimeout(IO_TIMEOUT_S)
            try:
                client.sendall(memoryview(data)[sent:])
            finally:
                self.blocked_since = None

    def send(self, data: bytes) -> int:
        """Send all of ``data``, for callers that know ``send`` alone, and return its length."""
        self.sendall(data)
        return len(data)
