"""Clients' sockets: their calls have deadlines, and other greenlets can end their waits.

``ConnectionTable`` decides which connections are closed when too many are open.
"""

from __future__ import annotations

import socket
import struct
import time
from contextlib import closing, suppress
from itertools import islice
from typing import Any

from portfolio.server import tcp

# How long the client may take to send a head or a body, or to read a part of a response.
IO_TIMEOUT_S = 10.0

# Connections that may exceed the limit while those that were closed for them end.
RESERVED_CONNECTIONS = 256

# The kernel's buffer for what a client has not read yet; Linux doubles it. It has room for a page
# of a thousand portfolios, and for more than a worker produces in a round trip of a millisecond.
SEND_BUFFER_BYTES = 96 * 1024
# The most memory that waits for clients to read: parts of responses, their copies framed as chunks,
# and the kernel's buffers.
_MAX_UNREAD_BYTES = 24 * 1024 * 1024
# Bytes of each connection that are not counted: what a client reads at once takes a round trip.
_UNCOUNTED_UNREAD_BYTES = 8 * 1024

# When a connection begins to wait for its client to read, so many others are checked for progress;
# each several times, since the client's kernel takes some bytes even if the client reads none.
_LOOKS = 16

# The most that one call receives. Gunicorn asks for up to a mebibyte and buffers what it does not
# need yet, which would be memory that is not accounted for.
_MAX_RECEIVE_BYTES = 8 * 1024

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
        self._sending_bytes = 0
        self._is_cut = False
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
            self._sending_bytes = len(data)
            self.stalled_since = time.monotonic()
            client.settimeout(IO_TIMEOUT_S)
            try:
                self._table.hold(self)
                client.sendall(memoryview(data)[sent:])
            except OSError:
                self.cut()
                raise
            finally:
                self._table.release(self)
                self._sending_bytes = 0
                self.stalled_since = None

    send = sendall  # what Gunicorn calls to let a client continue

    @property
    def has_unread(self) -> bool:
        """Whether bytes have arrived that were not read yet."""
        return tcp.unread_input(self._client) > 0

    @property
    def unread_bytes(self) -> int:
        """The memory that waits for the client to read, if it is much; else 0.

        It is that of the part being sent and of its copy framed as a chunk, and the kernel's, which
        takes about twice the bytes that it holds.
        """
        if self._is_cut:
            return 0
        size = 2 * (self._sending_bytes + tcp.unread_output(self._client))
        return size if size > _UNCOUNTED_UNREAD_BYTES else 0

    @property
    def read_bytes(self) -> int:
        """How much the client has read, or its kernel has taken."""
        return tcp.acknowledged_bytes(self._client)

    @property
    def seconds_since_last_byte(self) -> float:
        """The time since the last byte arrived."""
        return tcp.seconds_since_last_byte(self._client)

    def wake(self) -> None:
        """End the wait of the greenlet that uses this socket.

        A reader still gets what has arrived, so that a complete request is answered; a writer gets
        an error.
        """
        self._shut_down(socket.SHUT_RDWR if self._sending_bytes else socket.SHUT_RD)

    def cut(self) -> None:
        """Break the connection.

        Otherwise the kernel would try for minutes to send what the client does not read.
        """
        self._is_cut = True
        with suppress(OSError):
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._shut_down(socket.SHUT_RDWR)

    def _shut_down(self, how: int) -> None:
        # On a duplicate: gevent's shutdown() throws an error into the greenlet that waits on the
        # same socket object, which would then not read what has arrived.
        with suppress(OSError), closing(self._client.dup()) as duplicate:
            duplicate.shutdown(how)

    def end_output(self) -> None:
        """Tell the client that nothing more is sent; raise OSError if it is gone."""
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
        # Unread bytes, and bytes read by then. The connection whose client read last comes last.
        self._held: dict[ClientSocket, tuple[int, int]] = {}
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

        Return whether it was added: not if the reserve is used up as well.
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
        self.release(connection)
        self._closing -= connection.closing

    def hold(self, connection: ClientSocket) -> None:
        """Count the memory that waits for the client of ``connection`` to read.

        If all of it is too much, close those whose clients have read nothing for longest.
        """
        held = self._held
        for each in (connection, *islice(held, _LOOKS)):
            self._look_at(each)
        while len(held) > 1 and sum(size for size, _ in held.values()) > _MAX_UNREAD_BYTES:
            longest = next(iter(held))
            self.release(longest)  # its memory is free as soon as its greenlet runs
            self._end(longest)

    def _look_at(self, connection: ClientSocket) -> None:
        """Put the connection last if its client has read since the last look."""
        _, before = self._held.get(connection, (0, -1))
        size, read = connection.unread_bytes, connection.read_bytes
        if read > before:
            self.release(connection)
            if size:
                self._held[connection] = size, read

    def release(self, connection: ClientSocket) -> None:
        """Undo ``hold``."""
        self._held.pop(connection, None)

    def end_idle(self) -> None:
        """Close the connections that wait for a request of which nothing has arrived."""
        for connection in list(self.waiting):
            if not connection.head_begun and not connection.has_unread:
                connection.wake()

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
        if connection.unread_bytes:
            connection.cut()
        else:
            connection.wake()
