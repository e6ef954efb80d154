"""The folder of a local run: its data, and the run that uses it; for the launcher and the CLI."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

REPLICA_SET = "local"
_LOCK_TIMEOUT_S = 15.0
_PAUSE_S = 0.05


class DataFolderError(RuntimeError):
    """The folder can't be used; the message gives the reason."""


class Holder(NamedTuple):
    """The run that uses a folder: the launcher's process id, and the port of the service."""

    pid: int
    port: int


class DataFolder:
    """The folder ``.data``: MongoDB's files, and the run that uses them.

    One run uses it at a time. The lock belongs to an open file that the run's processes inherit,
    so it is released once the last of them has ended, for whatever reason.

    Args:
        path: the folder; created if it is missing.
    """

    def __init__(self, path: Path = Path(".data")) -> None:
        self.path = path
        self.mongodb = path / "mongodb"
        self._lock_path = path / "lock"
        self._port_path = self.mongodb / "port"
        self._lock: IO[str] | None = None

    @property
    def lock_fd(self) -> int:
        """The file descriptor to pass to child processes, so that they hold the lock too."""
        if self._lock is None:
            raise RuntimeError("the folder is not locked")
        return self._lock.fileno()

    def acquire(self, holder: Holder, exists: Callable[[int], bool]) -> None:
        """Lock the folder for this run.

        Waits for a run whose launcher was killed, which needs a moment to end.

        Args:
            holder: this run, for others that want the folder.
            exists: returns whether a process runs.

        Raises:
            DataFolderError: another run uses it, or it can't be created or written.
        """
        try:
            self.mongodb.mkdir(parents=True, exist_ok=True)
            lock = self._lock_path.open("a+")
        except OSError as error:
            raise DataFolderError(cannot_use(self.path, error)) from error
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while not _try_lock(lock, fcntl.LOCK_EX):
            found = self.read_holder()
            if found is not None and exists(found.pid):
                lock.close()
                raise DataFolderError(
                    "The service runs from this folder already: "
                    f"http://localhost:{found.port} (PID {found.pid}). Stop that one first."
                )
            if time.monotonic() > deadline:
                lock.close()
                raise DataFolderError(f"{self.path} is still in use by an earlier run.")
            time.sleep(_PAUSE_S)
        try:
            lock.truncate(0)
            lock.write(json.dumps(holder._asdict()))
            lock.flush()
        except OSError as error:
            lock.close()
            raise DataFolderError(cannot_use(self.path, error)) from error
        self._lock = lock

    def release(self) -> None:
        """Release this process's hold on the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def in_use(self) -> bool:
        """Whether a run holds the lock now."""
        try:
            with self._lock_path.open() as lock:
                return not _try_lock(lock, fcntl.LOCK_SH)
        except OSError:
            return False

    def read_holder(self) -> Holder | None:
        """Return the last run that took the lock; None if it is not known."""
        try:
            found = json.loads(self._lock_path.read_text())
            return Holder(int(found["pid"]), int(found["port"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def read_port(self) -> int | None:
        """Return the last port of MongoDB; None if it is not known."""
        try:
            port = int(self._port_path.read_text())
        except (OSError, ValueError):
            return None
        return port if 0 < port < 65536 else None

    def write_port(self, port: int) -> None:
        """Note MongoDB's port, for the next run and for the CLI.

        Raises:
            DataFolderError: it can't be written.
        """
        try:
            self._port_path.write_text(str(port))
        except OSError as error:
            raise DataFolderError(cannot_use(self._port_path, error)) from error


def local_environment(folder: DataFolder | None = None) -> dict[str, str]:
    """Return the variables with which a command reaches the local run in this folder.

    Empty if no run with its own MongoDB uses this folder.
    """
    folder = folder or DataFolder()
    if not folder.in_use:
        return {}
    port, holder = folder.read_port(), folder.read_holder()
    if port is None or holder is None:
        return {}
    return {
        "MONGODB_URI": f"mongodb://127.0.0.1:{port}/?replicaSet={REPLICA_SET}",
        # The workers' runtime folder depends on it.
        "PORT": str(holder.port),
    }


def cannot_use(path: Path, error: OSError) -> str:
    """Return the sentence for a file or folder that can't be used."""
    return f"{path} can't be used: {error.strerror or error}."


def _try_lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
