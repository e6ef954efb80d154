"""Ports of a local run, and processes that end with their parent."""

from __future__ import annotations

import ctypes
import errno
import shlex
import signal
import socket
import sys
import textwrap

import psutil

_PR_SET_PDEATHSIG = 1
# Kept until the process ends: a server may be started late, and again.
_reserved: list[socket.socket] = []


class PortError(RuntimeError):
    """A port can't be used; the message gives the reason."""


def free_port() -> int:
    """Return a free TCP port of the loopback interface that stays reserved for this process.

    The kernel gives it to nobody else who asks for any free port. A server that binds this very
    port with SO_REUSEADDR, as servers do, gets it.
    """
    holder = socket.socket()
    holder.bind(("127.0.0.1", 0))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _reserved.append(holder)
    return int(holder.getsockname()[1])


def check_port(port: int) -> None:
    """Check that ``port`` of the loopback interface can be listened on.

    Raises:
        PortError: it can't; the message names the process that uses it, if that is known.
    """
    with socket.socket() as probe:
        # As in Gunicorn: connections of an earlier run that are still closing do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError as error:
            advice = "Choose another: PORT=8001"
            if error.errno == errno.EADDRINUSE:
                advice = "Stop the program that uses it, or choose another: PORT=8001"
            raise PortError(
                f"Port {port} can't be used: {error.strerror}{_by_whom(port)}. {advice}"
            ) from error


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent of this process ends, however it ends.

    For ``preexec_fn``. Linux only; elsewhere nothing happens.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _by_whom(port: int) -> str:
    """Return `` by `` and the process that listens on ``port``, or an empty string."""
    try:
        listeners = [
            each.pid
            for each in psutil.net_connections("tcp")
            if each.status == psutil.CONN_LISTEN and each.laddr[1:2] == (port,) and each.pid
        ]
        # A server's workers share its port, and were started after it.
        process = min(map(psutil.Process, listeners), key=psutil.Process.create_time)
        return f" by PID {process.pid}, {textwrap.shorten(shlex.join(process.cmdline()), 100)}"
    except (psutil.Error, OSError, ValueError):  # of another user, or on macOS
        return ""
