"""What an import and an export share: errors, names of files, locks."""

from __future__ import annotations

import errno
import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

STANDARD_INPUT, STANDARD_OUTPUT = 0, 1
RESTART = "--restart begins anew: an import leaves alone what is stored already."
_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class TransferError(click.ClickException):
    """The transfer can't go on; the message says why and what to do."""


@contextmanager
def file_errors(file: Path, on_disk_error: str = "") -> Iterator[None]:
    """Turn an ``OSError`` into a ``TransferError`` that names the file, or ``file`` if it does not.

    A broken pipe is left to end the command in silence, as it ends others. ``on_disk_error`` is
    added to the message if the disk is full or broken.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        more = on_disk_error if error.errno in _DISK_ERRORS else ""
        raise TransferError(f"{error.filename or file}: {error.strerror or error}{more}") from error


def descriptor_of(file: Path, dash: int) -> int | None:
    """Return the open descriptor that ``file`` names, such as ``/dev/fd/63``; ``-`` is ``dash``.

    The path of a descriptor must not be opened: a regular file would be read from its start, and
    replaced under whoever else writes to it.
    """
    match = _DESCRIPTOR.fullmatch(str(file))
    return int(match[1]) if match else {"-": dash, **_STREAMS}.get(str(file))


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
