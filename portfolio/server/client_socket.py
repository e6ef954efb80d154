"""A client's socket: its calls have deadlines, and other greenlets can end its waits."""

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

# The most that one call receives. Gunicorn asks for up to a mebibyte and buffers what it does not
# need yet, which would be memory that is not accounted for.
_MAX_RECEIVE_BYTES = 8 * 1024

# Where Linux's struct tcp_info has tcpi_last_data_recv.
_LAST_DATA_RECEIVED = 52
_TCP_INFO_BYTES = 56


class AllowanceExceeded(Exception):
    """The client sent more than it may."""


class ClientSocket:
    """The gevent socket of one connection, with a deadline that every ``recv`` counts against.

    Waits are bounded by socket timeouts in the greenlet that waits: nothing interrupts it anywhere
    else.

    Attributes:
        deadline: until when ``recv`` waits, on the monotonic clock, in seconds.
        allowance: bytes that ``recv`` may still receive.
        stalled_since: when it began to wait for a body, or for the client to read; None if it does
            not.
        head_begun: whether a part of the next request's head has been read.
        closing: whether the connection ends with its next response, or without one.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
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
            TimeoutError: the client did not read in time.
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
                client.sendall(memoryview(data)[sent:])
            finally:
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
