"""The files and streams of a transfer: what their names say, opening and locking them, errors."""

from __future__ import annotations

import codecs
import errno
import fcntl
import gzip
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import click

RESTART = "--restart begins anew: an import leaves alone what is stored already."
_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
_UTF_16_STARTS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
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
        is_open = descriptor_of(file, dash=0) is not None
        given = "-" if is_open else _uncompressed_name(file)
    # Names of files may hold bytes that are not text.
    return given.encode(errors="backslashreplace").decode()


def format_of(file: Path, given: str | None) -> str:
    """Return the format of ``file``: the given one, else what its name says."""
    return given or ("csv" if _uncompressed_name(file).lower().endswith(".csv") else "ndjson")


def _uncompressed_name(file: Path) -> str:
    return file.stem if is_compressed(file) else file.name


def _lock(file: IO[bytes], refusal: str) -> None:
    """Lock ``file`` until it is closed, at the latest by the end of the process.

    Raises:
        TransferError: another process has locked it; ``refusal`` is the message.
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TransferError(refusal) from None


class Source(NamedTuple):
    """An opened file to import: its uncompressed data, and the file itself.

    Its size is in bytes; None for a stream, which has none.
    """

    data: Any
    raw: Any
    size: int | None


@contextmanager
def open_source(file: Path, encoding: str) -> Iterator[Source]:
    """Open ``file`` for import; a regular file is locked, so that it is imported once at a time.

    Raises:
        TransferError: another import reads it, or its content is of another kind.
        OSError: it can't be opened.
    """
    with ExitStack() as stack:
        descriptor = descriptor_of(file, dash=0)
        opened = file.open("rb") if descriptor is None else os.fdopen(os.dup(descriptor), "rb")
        raw: Any = stack.enter_context(opened)
        status = os.fstat(raw.fileno())
        is_stream = descriptor is not None or not stat.S_ISREG(status.st_mode)
        if not is_stream:
            # A network file system may have no locks. Two imports at once waste time, no more.
            with suppress(OSError):
                _lock(raw, f"Another import is reading {file}: wait until it has ended.")
        data = raw
        if is_compressed(file):
            data = stack.enter_context(gzip.GzipFile(fileobj=raw))
        elif raw.peek(2).startswith(b"\x1f\x8b"):
            raise TransferError(
                "This is compressed with gzip: its name should end in .gz; or pipe it through zcat."
            )
        elif encoding == "utf-8" and raw.peek(2).startswith(_UTF_16_STARTS):
            raise TransferError("line 1: this is UTF-16: add --encoding utf-16")
        yield Source(data, raw, None if is_stream else status.st_size)


@contextmanager
def open_part(path: Path, like: Path) -> Iterator[IO[bytes]]:
    """Open the unfinished export at ``path``, and lock it until the end of the context.

    It gets the mode of ``like``, the file that it will replace.

    Raises:
        TransferError: another export writes it.
        OSError: it can't be opened.
    """
    while True:
        # Never through a link: in a folder for everybody, others may have put one there.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with os.fdopen(descriptor, "rb+") as out:
            _lock(out, f"Another export is writing {path}")
            # The previous owner of the lock may have put this very file in place.
            if not (path.exists() and os.path.samefile(path, descriptor)):
                continue
            with suppress(FileNotFoundError):
                os.fchmod(descriptor, stat.S_IMODE(like.stat().st_mode))
            yield out
            return


def open_stream(file: Path) -> IO[bytes] | None:
    """Open ``file`` for writing if it is a pipe, a device or a descriptor; return None if not."""
    descriptor = descriptor_of(file, dash=1)
    if descriptor is not None:
        return os.fdopen(os.dup(descriptor), "wb")
    if file.exists() and not stat.S_ISREG(file.stat().st_mode):
        return os.fdopen(os.open(file, os.O_WRONLY), "wb")
    return None
