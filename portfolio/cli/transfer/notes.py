"""Notes of progress: small JSON files beside the data, each replaced as a whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_VERSION = 2


class NoteError(Exception):
    """The note can't be used; the message says why, as the end of a sentence about it."""


class NoteVersionError(NoteError):
    """The note is of another version of this command."""


class Note:
    """The note of one transfer.

    Args:
        path: where it is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any] | None:
        """Return what is noted, or None where there is no note.

        Raises:
            NoteError: it holds something else than this version has written.
        """
        try:
            content = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            raise NoteError("is damaged") from None
        if not isinstance(content, dict):
            raise NoteError("is damaged")
        if content.get("note") != _VERSION:
            raise NoteVersionError("was written by another version of this command")
        return content

    def write(self, content: dict[str, Any], *, durable: bool = False) -> None:
        """Replace the note.

        Args:
            content: what to note, for JSON.
            durable: wait until it has reached the disk.

        Raises:
            OSError: it could not be written; the old note stands.
        """
        fresh = self.path.with_name(f"{self.path.name}.new")
        text = json.dumps({"note": _VERSION, **content}, indent=1) + "\n"
        try:
            with open(fresh, "w", encoding="utf-8", opener=_open_itself) as out:
                out.write(text)
                out.flush()
                if durable:
                    os.fsync(out.fileno())
            fresh.replace(self.path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise

    def remove(self) -> None:
        """Remove the note: the work is done."""
        self.path.unlink(missing_ok=True)


def _open_itself(path: str, flags: int) -> int:
    # Others may have put a link there, in a folder for everybody.
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)
