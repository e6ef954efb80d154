"""Clients' sockets: their calls have deadlines, and other greenlets can end their waits.

The table of those that are open decides which of them are closed when there are too many.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
import time
from contextlib import closing, suppress
from typing import Any

# How long the client may take to send a head or a body, or to read a part of a response.
IO_TIMEOUT_S = 10.0

# Connections that may be open beyond the limit while those closed for them are ending.
RESERVED_CONNECTIONS = 256

# The kernel's buffer for what a client has not read yet; Linux doubles it. It has room for a page
# of a thousand portfolios, and for more than a worker produces in a round trip of a millisecond.
SEND_BUFFER_BYTES = 96 * 1024
# The most memory that waits for clients to read: parts of responses, their copies framed as chunks,
# and the kernel's buffers.
_MAX_STALLED_BYTES = 24 * 1024 * 1024

# The most that one call receives. Gunicorn asks for up to a mebibyte and buffers what it does not
# need yet, which would be memory that is not accounted for.
_MAX_RECEIVE_BYTES = 8 * 1024

# Where Linux's struct tcp_info has tcpi_last_data_recv.
_LAST_DATA_RECEIVED = 52
_TCP_INFO_BYTES = 56
# Linux's struct linger: close at once.
_NO_LINGER = struct.pack("ii", 1, 0)


class AllowanceExceeded(Exception):
    """The client sent more than it may."""


class ClientSocket:
    """The gevent socket of one connection, with a deadline that every ``recv`` counts against.

    Waits are bounded by socket timeouts in the greenlet that waits: nothing interrupts it anywhere
    else. ``table`` knows those that wait for the client to read.

    Attributes:
        deadline: until when ``recv`` waits, on the monotonic clock, in seconds.
        allowance: bytes that ``recv`` may still receive.
        stalled_since: when it began to wait for a body, or for the client to read; None if it does
            not.
        head_begun: whether a part of the next request's head has been read.
        closing: whether the connection ends with its next response, or without one.
    """

    def __init__(self, client: Any, table: ConnectionTable) -> None:
        self._client = client
        self._table = table
        self._sending = False
        self.deadline = 0.0
        self.allowance = 0
        self.stalled_since: float | None = None
        self.head_begun = False
        self.closing = False

    def recv(self, size: int) -> bytes:
        """Return up to ``size`` bytes; empty if the client has closed its side.

        What has arrived is returned even after the deadline: the worker may have been throttled.

        Raises:
            TimeoutError: nothing arrived before the deadline.
            AllowanceExceeded: more arrived than the allowance.
        """
        client = self._client
        while True:
            client.settimeout(max(self.deadline - time.monotonic(), 0.0))
            try:
                data: bytes = client.recv(min(size, _MAX_RECEIVE_BYTES))
            except BlockingIOError:
                raise TimeoutError("it did not send in time") from None
            except TimeoutError:
                continue  # once more, without waiting
            self.allowance -= len(data)
            if self.allowance < 0:
                raise AllowanceExceeded
            return data

    def sendall(self, data: bytes) -> None:
        """Send ``data``, nearly always without waiting: the buffer has room if the client reads.

        Raises:
            OSError: the client did not read in time, or the connection ended.
        """
        client = self._client
        client.settimeout(0.0)
        try:
            sent = client.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._sending = True
            self.stalled_since = time.monotonic()
            client.settimeout(IO_TIMEOUT_S)
            try:
                self._table.hold(self, 2 * (len(data) + SEND_BUFFER_BYTES))
                client.sendall(memoryview(data)[sent:])
            except OSError:
                # The kernel would keep its buffer, and try to send it, for minutes after the close.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                raise
            finally:
                self._table.release(self)
                self._sending = False
                self.stalled_since = None

    send = sendall  # what Gunicorn calls to let a client continue

    @property
    def has_unread(self) -> bool:
        """Whether bytes have arrived that were not read yet."""
        return any(fcntl.ioctl(self._client.fileno(), termios.FIONREAD, bytes(4)))

    def seconds_since_last_byte(self) -> float:
        """Return the time since the last byte arrived, or since the connection began.

        The kernel measures it, also while this process is throttled or the connection waits to be
        accepted. It is 0 if the kernel is not Linux.
        """
        if not hasattr(socket, "TCP_INFO"):
            return 0.0
        info = self._client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        (milliseconds,) = struct.unpack_from("I", info, _LAST_DATA_RECEIVED)
        return float(milliseconds) / 1000

    def wake(self) -> None:
        """End the wait of the greenlet that uses this socket.

        A reader still gets what has arrived, so that a complete request is answered; a writer gets
        an error.
        """
        self._shut_down(socket.SHUT_RDWR if self._sending else socket.SHUT_RD)

    def cut(self) -> None:
        """Break the connection."""
        self._shut_down(socket.SHUT_RDWR)

    def _shut_down(self, how: int) -> None:
        # On a duplicate: gevent's shutdown() throws an error into the greenlet that waits on the
        # same socket object, which would then not read what has arrived.
        with suppress(OSError), closing(self._client.dup()) as duplicate:
            duplicate.shutdown(how)

    def end_output(self) -> None:
        """Tell the client that nothing more is sent.

        Raises:
            OSError: the client is gone.
        """
        self._client.shutdown(socket.SHUT_WR)


class ConnectionTable:
    """The open connections, and those of them that wait for a request.

    Args:
        limit: the number of connections from which each new one closes another.

    Attributes:
        waiting: those that wait for the head of a request, longest first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[ClientSocket] = set()
        self._closing = 0
        self._held: dict[ClientSocket, int] = {}
        self.waiting: dict[ClientSocket, None] = {}

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._open)

    @property
    def is_full(self) -> bool:
        """Whether a new connection closes another."""
        return len(self._open) - self._closing >= self._limit

    def add(self, connection: ClientSocket) -> bool:
        """Add a new connection; if the table is full, close the one that has waited longest.

        Returns:
            whether it was added: not if the reserve is used up as well.
        """
        if len(self._open) >= self._limit + RESERVED_CONNECTIONS:
            return False
        if self.is_full:
            self._evict()
        self._open.add(connection)
        return True

    def remove(self, connection: ClientSocket) -> None:
        """Remove a connection that has ended."""
        self._open.discard(connection)
        self.waiting.pop(connection, None)
        self._closing -= connection.closing

    def hold(self, connection: ClientSocket, size: int) -> None:
        """Count ``size`` bytes that are in memory until the client reads.

        If that is too much in all, close those that have waited longest for their clients to read.
        """
        self._held[connection] = size
        while sum(self._held.values()) > _MAX_STALLED_BYTES and len(self._held) > 1:
            longest = next(iter(self._held))
            self.release(longest)  # its memory is free as soon as its greenlet runs
            self._end(longest)

    def release(self, connection: ClientSocket) -> None:
        """Count the bytes of ``hold`` no more."""
        self._held.pop(connection, None)

    def end_idle(self) -> None:
        """Close the connections that wait for a request of which nothing has arrived."""
        for connection in list(self.waiting):
            if not connection.head_begun and not connection.has_unread:
                self._end(connection)

    def cut(self) -> None:
        """Break all connections."""
        for connection in list(self._open):
            connection.cut()

    def _evict(self) -> None:
        """Close the connection that has waited longest for a request.

        If none waits for one, close the one that has waited longest for its client to send a body
        or to read. Connections whose request is being processed stay.
        """
        longest = next((each for each in self.waiting if not each.closing), None) or min(
            (each for each in self._open if each.stalled_since and not each.closing),
            key=lambda each: each.stalled_since or 0.0,
            default=None,
        )
        if longest is not None:
            self._end(longest)

    def _end(self, connection: ClientSocket) -> None:
        self.waiting.pop(connection, None)
        if not connection.closing:
            connection.closing = True
            self._closing += 1
        connection.wake()
