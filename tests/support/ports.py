"""Ports for servers that tests start."""

from __future__ import annotations

import socket

# Kept until the process ends: a server may be started late, and again.
_reserved: list[socket.socket] = []


def free_port() -> int:
    """Return a free TCP port of the loopback interface that stays reserved for this process.

    The kernel gives a port that is bound to nobody who asks for any port, be it to listen or to
    connect. A server that names the port, and sets SO_REUSEADDR as servers do, gets it.
    """
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _reserved.append(holder)
    return int(holder.getsockname()[1])
