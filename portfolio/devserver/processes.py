"""Ports of a local run, and processes that end with their parent."""

from __future__ import annotations

import ctypes
import signal
import socket
import sys

_PR_SET_PDEATHSIG = 1
# Kept until the process ends: a server may be started late, and again.
_reserved: list[socket.socket] = []


class PortError(RuntimeError):
    """A port can't be used; the message gives the reason."""


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


def check_port(port: int) -> None:
    """Check that ``port`` of the loopback interface can be listened on.

    Raises:
        PortError: it can't.
    """
    with socket.socket() as probe:
        # As in Gunicorn: connections of an earlier run that are still closing do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError as error:
            raise PortError(
                f"Port {port} can't be used: {error.strerror}. Stop the program that uses it, or "
                "choose another: PORT=8001"
            ) from error


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent of this process ends, however it ends.

    For ``preexec_fn``. Linux only; elsewhere nothing happens.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
