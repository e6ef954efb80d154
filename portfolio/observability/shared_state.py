"""Files through which the workers of one instance share their state.

Each worker has its own file in a shared folder and replaces it atomically: no locks, and readers
see the old content or the new. If the folder cannot be written, workers lack only the state of the
others.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

State = dict[str, Any]

# A worker writes once a second; Gunicorn kills one that hangs after 60 s.
_FORGET_AFTER_S = 90.0
# The file of a worker, or the draft of one that died while writing.
_FILE = re.compile(r"worker-([0-9]{1,10})\.json(?:\.[0-9]+)?")


def prepare_folder(folder: Path) -> None:
    """Create ``folder``, accessible to this user only, if it is missing.

    Raises:
        OSError: it cannot be created or used.
        PermissionError: it belongs to another user, who could control the workers.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() not in (0, folder.stat().st_uid):
        raise PermissionError(f"{folder} belongs to another user")


def replace_file(path: Path, content: bytes, *, draft: str = "", durable: bool = False) -> None:
    """Write ``content`` to ``path`` atomically.

    Args:
        path: readable by this user only.
        content: what to write.
        draft: the suffix of the file that is written first; by default the process id.
        durable: wait until the content has reached the disk.

    Raises:
        OSError: it cannot be written; the previous content stays.
    """
    fresh = path.with_name(f"{path.name}.{draft or os.getpid()}")
    try:
        # O_NOFOLLOW: do not write through a link that somebody else has placed there.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(fresh, flags, 0o600), "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


class SharedState:
    """The state files of the workers of one instance, in ``folder``, which may not exist yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def publish(self, state: State) -> None:
        """Publish ``state``, which must be serializable as JSON, as the state of this process.

        Raises:
            OSError: the file cannot be written.
        """
        replace_file(self._folder / f"worker-{os.getpid()}.json", orjson.dumps(state))

    def remove(self) -> None:
        """Remove the state of this process."""
        with suppress(OSError):
            (self._folder / f"worker-{os.getpid()}.json").unlink(missing_ok=True)

    def read(self) -> dict[int, State]:
        """Return the state of each live process by process id; remove the files of dead ones."""
        found = {}
        try:
            paths = list(self._folder.iterdir())
        except OSError:
            return {}
        for path in paths:
            name = _FILE.fullmatch(path.name)
            if name is None:
                continue
            with suppress(OSError, ValueError):
                if not _is_live(int(name[1]), path):
                    path.unlink()
                elif path.suffix == ".json":
                    state = orjson.loads(path.read_bytes())
                    if isinstance(state, dict):
                        found[int(name[1])] = state
        return found


def _is_live(pid: int, path: Path) -> bool:
    if time.time() - path.stat().st_mtime > _FORGET_AFTER_S:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
