"""What the kernel knows about a connection, and how to end one that somebody else waits on."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from contextlib import closing, suppress
from typing import Any

# Where Linux's struct tcp_info has tcpi_last_data_recv.
_LAST_DATA_RECEIVED = 52
_TCP_INFO_BYTES = 56


def seconds_since_last_byte(client: Any) -> float | None:
    """Return how long ago the last byte came in, or the connection began; None where unknown.

    The kernel counts it, also while this process stands still, or the connection waits to be
    accepted.
    """
    if not hasattr(socket, "TCP_INFO"):
        return None
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    (milliseconds,) = struct.unpack_from("I", info, _LAST_DATA_RECEIVED)
    return float(milliseconds) / 1000


def has_unread(client: Any) -> bool:
    """Return whether bytes have come in that nobody has read."""
    return any(fcntl.ioctl(client.fileno(), termios.FIONREAD, bytes(4)))


def shut_down(client: Any, how: int) -> None:
    """Shut down one side of a connection, or both.

    Whoever waits on it wakes: a reader by the end of what has come in, a writer by an error.

    Args:
        client: the gevent socket.
        how: ``SHUT_RD`` or ``SHUT_RDWR``.
    """
    # On a duplicate, because gevent's own shutdown() first throws an error into the greenlet that
    # waits on the same socket object, so that it would not read what has come in.
    with suppress(OSError), closing(client.dup()) as duplicate:
        duplicate.shutdown(how)
