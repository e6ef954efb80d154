"""The kernel's view of a connection, and shutting one down while another greenlet waits on it."""

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
    """Return the time since the last byte arrived, or since the connection began; None if unknown.

    The kernel measures it, also while this process is throttled or the connection waits to be
    accepted.
    """
    if not hasattr(socket, "TCP_INFO"):
        return None
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    (milliseconds,) = struct.unpack_from("I", info, _LAST_DATA_RECEIVED)
    return float(milliseconds) / 1000


def has_unread(client: Any) -> bool:
    """Return whether unread bytes have arrived."""
    return any(fcntl.ioctl(client.fileno(), termios.FIONREAD, bytes(4)))


def shut_down(client: Any, how: int) -> None:
    """Shut down one side of a connection, or both.

    A waiting reader gets what has arrived and then the end; a waiting writer gets an error.

    Args:
        client: the gevent socket.
        how: ``SHUT_RD`` or ``SHUT_RDWR``.
    """
    # On a duplicate: gevent's shutdown() throws an error into the greenlet that waits on the same
    # socket object, which would then not read what has arrived.
    with suppress(OSError), closing(client.dup()) as duplicate:
        duplicate.shutdown(how)
