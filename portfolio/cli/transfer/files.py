"""The files and streams of a transfer: their names, their locks, and the note beside them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

STANDARD_INPUT = 0
STANDARD_OUTPUT = 1
_STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)|/dev/(stdin|stdout|stderr)")
_NOTE_VERSION = 2


class TransferError(click.ClickException):
    """The transfer can't go on; the message says why and what to do."""


class NoteError(Exception):
    """The note can't be used; the message is the end of a sentence about it."""


class NoteVersionError(NoteError):
    """Another version of this command has written the note."""


@contextmanager
def file_errors(file: Path) -> Iterator[None]:
    """Turn an ``OSError`` into a ``TransferError`` that names the file, or ``file`` if it does not.

    A broken pipe is left to end the command in silence, as it ends others.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        raise TransferError(f"{error.filename or file}: {error.strerror or error}") from error


def descriptor_of(file: Path, dash: int) -> int | None:
    """Return the open descriptor that ``file`` names, such as ``/dev/fd/63``; else None.

    The path of a descriptor must not be opened: a regular file would be read from its start, and
    replaced under whoever else writes to it.

    Args:
        file: as the user gave it.
        dash: the descriptor that ``-`` stands for.
    """
    if str(file) == "-":
        return dash
    match = _DESCRIPTOR.fullmatch(str(file))
    if match is None:
        return None
    return int(match[1]) if match[1] else _STREAMS[match[2]]


def is_special(file: Path) -> bool:
    """Return whether ``file`` exists and is not a regular file: a named pipe, a device."""
    return file.exists() and not stat.S_ISREG(file.stat().st_mode)


def is_compressed(file: Path) -> bool:
    """Return whether the name of ``file`` says that it is compressed with gzip."""
    return file.suffix.lower() == ".gz"


def label_of(file: Path, given: str | None) -> str:
    """Return the label of ``file``: the given one, else its name without ``.gz``.

    All names of open descriptors have the label of the standard input.
    """
    if given is None:
        is_open = descriptor_of(file, STANDARD_INPUT) is not None
        given = "-" if is_open else _uncompressed_name(file)
    # Names of files may hold bytes that are not text.
    return given.encode(errors="backslashreplace").decode()


def format_of(file: Path, given: str | None) -> str:
    """Return the format of ``file``: the given one, else what its name says."""
    return given or ("csv" if _uncompressed_name(file).lower().endswith(".csv") else "ndjson")


def _uncompressed_name(file: Path) -> str:
    return file.stem if is_compressed(file) else file.name


def lock(file: IO[bytes], refusal: str) -> None:
    """Lock ``file`` until it is closed, at the latest by the end of the process.

    Raises:
        TransferError: another process has locked it; ``refusal`` is the message.
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TransferError(refusal) from None


class Note:
    """A small JSON file beside the data that says how far a transfer has come.

    Args:
        path: where it is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any] | None:
        """Return the content, or None where there is no note.

        Raises:
            NoteError: this version has not written it.
        """
        try:
            content = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            raise NoteError("is damaged") from None
        if not isinstance(content, dict):
            raise NoteError("is damaged")
        if content.get("note") != _NOTE_VERSION:
            raise NoteVersionError("was written by another version of this command")
        return content

    def write(self, content: dict[str, Any], *, durable: bool = False) -> None:
        """Replace the note.

        Args:
            content: what to write, as JSON.
            durable: wait until it has reached the disk.

        Raises:
            OSError: it can't be written; the old note stays.
        """
        fresh = self.path.with_name(f"{self.path.name}.new")
        text = json.dumps({"note": _NOTE_VERSION, **content}, indent=1) + "\n"
        try:
            with open(fresh, "w", encoding="utf-8", opener=_open_no_link) as out:
                out.write(text)
                out.flush()
                if durable:
                    os.fsync(out.fileno())
            fresh.replace(self.path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise

    def remove(self) -> None:
        """Remove the note: the transfer is complete."""
        self.path.unlink(missing_ok=True)


def _open_no_link(path: str, flags: int) -> int:
    # In a folder for everybody, others may have put a link there.
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)
