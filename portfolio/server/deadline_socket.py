"""A client socket whose calls have deadlines."""

from __future__ import annotations

import time
from typing import Any

# How long the client may take to read a part of a response.
IO_TIMEOUT_S = 10.0

# The most that one call receives. Gunicorn asks for up to a mebibyte and buffers what it does not
# need yet, which would be memory that is not accounted for.
_MAX_RECEIVE_BYTES = 8 * 1024


class DeadlineExceeded(Exception):
    """The client did not send in time."""


class AllowanceExceeded(Exception):
    """The client sent more than it may."""


class DeadlineSocket:
    """The socket of one connection, with a deadline that every ``recv`` counts against.

    Waits are bounded by socket timeouts in the greenlet that waits: nothing interrupts it anywhere
    else.

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
        """Return up to ``size`` bytes; empty if the client has closed its side.

        What has arrived is returned even after the deadline: the worker may have been throttled.

        Raises:
            DeadlineExceeded: nothing arrived before the deadline.
            AllowanceExceeded: more arrived than the allowance.
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
        """Send ``data``, nearly always without waiting: the buffer has room if the client reads.

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
        """Send all of ``data`` and return its length, for callers that use ``send``."""
        self.sendall(data)
        return len(data)
