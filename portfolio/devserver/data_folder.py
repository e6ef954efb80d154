"""The folder of a local run: one run at a time uses it, and leaves a note there for the commands.

The note counts only while it is locked, which ends with the run, however that ends.
"""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import IO

FOLDER = Path(".data")
_NOTE = "run.json"


class DataFolderError(RuntimeError):
    """The folder can't be used; the message gives the reason."""


def lock_folder(variables: dict[str, str], folder: Path = FOLDER) -> IO[bytes]:
    """Lock ``folder`` until the returned file is closed; it is created if it is missing.

    ``variables`` lead commands to this run; ``PORT`` is one of them.

    Raises:
        DataFolderError: another run uses it, or it can't be created or written.
    """
    try:
        (folder / "mongodb").mkdir(parents=True, exist_ok=True)
        note = (folder / _NOTE).open("ab+", buffering=0)
        if not _try_lock(note, fcntl.LOCK_EX):
            note.close()
            port = local_environment(folder).get("PORT", "")
            raise DataFolderError(
                f"The service runs from this folder already: http://localhost:{port}. "
                "Stop that one first."
            )
        note.truncate(0)
        note.write(json.dumps(variables).encode())
    except OSError as error:
        raise DataFolderError(f"{folder} can't be used: {error.strerror or error}.") from error
    return note


def local_environment(folder: Path = FOLDER) -> dict[str, str]:
    """Return the variables that lead commands to the run in ``folder``; empty if there is none."""
    try:
        with (folder / _NOTE).open("rb") as note:
            if _try_lock(note, fcntl.LOCK_SH):
                return {}
            found: dict[str, str] = json.load(note)
            return found
    except (OSError, ValueError):
        return {}


def _try_lock(file: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
