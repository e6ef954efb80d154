"""What the kernel knows about a TCP connection; 0 for what only Linux tells, elsewhere."""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios
from typing import Any

# Linux's TCP_CLOSE: the connection is broken.
_CLOSED = 7


def unread_input(client: Any) -> int:
    """Return how many bytes have arrived that were not read yet."""
    return _queued(client, termios.FIONREAD)


def unread_output(client: Any) -> int:
    """Return how many bytes the kernel holds until the client takes them."""
    size = _queued(client, termios.TIOCOUTQ)
    # For a broken connection it still reports a length, though it holds nothing.
    return size if size and _tcp_info(client, "B") != _CLOSED else 0


def acknowledged_bytes(client: Any) -> int:
    """Return how many bytes the client has taken since the connection began."""
    return _tcp_info(client, "120xQ")  # tcpi_bytes_acked


def seconds_since_last_byte(client: Any) -> float:
    """Return the time since the last byte arrived, or since the connection began.

    The kernel measures it, also while this process is throttled or has not accepted it yet.
    """
    return _tcp_info(client, "52xI") / 1000  # tcpi_last_data_recv


def _queued(client: Any, direction: int) -> int:
    return int.from_bytes(fcntl.ioctl(client.fileno(), direction, bytes(4)), sys.byteorder)


def _tcp_info(client: Any, field: str) -> int:
    """Return a field of Linux's struct tcp_info."""
    if not hasattr(socket, "TCP_INFO"):
        return 0
    size = struct.calcsize(field)
    (value,) = struct.unpack(field, client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size))
    return int(value)
