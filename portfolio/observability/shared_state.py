"""Files in which each worker of one instance shows the others how it is.

Each worker has a file of its own in a folder that all of them share, and replaces it as a whole:
nobody waits for anybody, and a reader sees the old content or the new. Where the disk is full or
the folder can't be written, the others know less and the service goes on.
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

# A worker writes twice a second; Gunicorn ends one that hangs after 60 s.
_FORGET_AFTER_S = 90.0
# The file of a worker, or what is left of one that ended while it wrote.
_FILE = re.compile(r"worker-([0-9]{1,10})\.json(?:\.[0-9]+)?")


def prepare_folder(folder: Path) -> None:
    """Make ``folder`` where it is missing, for this user alone.

    Raises:
        OSError: it can't be made or used.
        PermissionError: it belongs to another user, who could control the workers.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() not in (0, folder.stat().st_uid):
        raise PermissionError(f"{folder} belongs to another user")


def replace_file(path: Path, content: bytes) -> None:
    """Replace ``path`` as a whole, whether it exists or not.

    Raises:
        OSError: it can't be written; what was there stays.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        # A link that somebody left in its place is not followed.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(draft, flags, 0o600), "wb") as file:
            file.write(content)
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


class SharedState:
    """The files of the workers of one instance.

    Args:
        folder: where they are; it may be missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def publish(self, state: State) -> None:
        """Show ``state``, in what JSON can hold, as this process's.

        Raises:
            OSError: the file can't be written.
        """
        replace_file(self._own_path(), orjson.dumps(state))

    def remove(self) -> None:
        """Show nothing of this process any more."""
        with suppress(OSError):
            self._own_path().unlink(missing_ok=True)

    def read(self) -> dict[int, State]:
        """Return what each live process shows, by process id, and remove the files of dead ones."""
        found = {}
        for path in self._files():
            name = _FILE.fullmatch(path.name)
            if name is None:
                continue
            pid = int(name[1])
            with suppress(OSError, ValueError):
                if not _is_live(pid, path):
                    path.unlink()
                elif path.suffix == ".json":
                    state = orjson.loads(path.read_bytes())
                    if isinstance(state, dict):
                        found[pid] = state
        return found

    def _own_path(self) -> Path:
        return self._folder / f"worker-{os.getpid()}.json"

    def _files(self) -> list[Path]:
        try:
            return list(self._folder.iterdir())
        except OSError:
            return []


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
