"""Processes of a local run: owners of ports, and children that end with their parent."""

from __future__ import annotations

import ctypes
import shlex
import signal
import socket
import sys
from contextlib import suppress

import psutil

_PR_SET_PDEATHSIG = 1
_COMMAND_LENGTH = 100


class PortError(RuntimeError):
    """A port can't be used; the message gives the reason."""


def free_port() -> int:
    """Return a free TCP port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
        except PermissionError as error:
            raise PortError(f"Port {port} is not allowed: {error.strerror}.") from error
        except OSError as error:
            raise PortError(f"Port {port} is in use{_by_whom(port)}.") from error


def describe_process(pid: int) -> str:
    """Return the id and the command line of a process, if they are known."""
    command = ""
    with suppress(psutil.Error):
        command = shlex.join(psutil.Process(pid).cmdline())
    if len(command) > _COMMAND_LENGTH:
        command = command[: _COMMAND_LENGTH - 1] + "…"
    return f"PID {pid}, {command}" if command else f"PID {pid}"


def exists(pid: int) -> bool:
    """Return whether a process with this id runs; zombies do not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, ValueError, OverflowError):  # the last two: not an id
        return False


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent of this process ends, however it ends.

    For ``preexec_fn``. Linux only; elsewhere nothing happens.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _by_whom(port: int) -> str:
    """Return `` by ...``, or an empty string if the system does not say."""
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError):  # on macOS, root only
        return ""
    pids = [
        each.pid
        for each in connections
        if each.status == psutil.CONN_LISTEN and each.laddr[1:2] == (port,) and each.pid
    ]
    if not pids:
        return " by a process of another user"
    return f" by {describe_process(_find_master(pids[0]))}"


def _find_master(pid: int) -> int:
    """Return the id of the process to stop: a server and its workers share the listener."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        while (parent := process.parent()) and parent.cmdline() == process.cmdline():
            process = parent
        return int(process.pid)
    return pid
