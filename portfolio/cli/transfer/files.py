"""The files and streams of a transfer: their names, opening and locking them, reading lines."""

from __future__ import annotations

import fcntl
import gzip
import io
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import click

_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
_GZIP = b"\x1f\x8b"
# A portfolio takes some hundred bytes; far longer lines are from files without line ends.
_MAX_LINE = 2**20


class TransferError(click.ClickException):
    """The transfer can't continue; the message says why and what to do."""


@contextmanager
def file_errors(file: Path, consequence: str = "") -> Iterator[None]:
    """Turn an ``OSError`` into a ``TransferError`` that names the file, or ``file`` if it does not.

    Ctrl-C becomes one too. A broken pipe is left to end the command in silence, as it ends others.
    ``consequence`` is a sentence that follows.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        message = f"{error.filename or file}: {error.strerror or error}. {consequence}".rstrip()
        raise TransferError(message) from error
    except KeyboardInterrupt:
        raise TransferError(f"Interrupted. {consequence}".rstrip()) from None


def descriptor_of(file: Path, dash: int) -> int | None:
    """Return the open descriptor that ``file`` names, such as ``/dev/fd/63``; ``-`` is ``dash``.

    Its path must not be opened: a regular file would be read from its start, or replaced while
    others write to it.
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
        given = _uncompressed_name(file) if descriptor_of(file, dash=0) is None else "-"
    # Names of files may hold bytes that are not text.
    return given.encode(errors="backslashreplace").decode()


def format_of(file: Path, given: str | None) -> str:
    """Return the format of ``file``: the given one, else what its name says."""
    return given or ("csv" if _uncompressed_name(file).lower().endswith(".csv") else "ndjson")


def _uncompressed_name(file: Path) -> str:
    return file.stem if is_compressed(file) else file.name


class LineError(Exception):
    """One line can't be read, the next may be; the message says why."""


class Lines:
    """The lines of a file or a stream as text, decompressed, without a byte order mark.

    Attributes:
        raw: what is read.
        size: the bytes in ``raw``; None for a stream.
        line: how many lines were read.
    """

    def __init__(self, raw: io.BufferedReader, encoding: str, size: int | None = None) -> None:
        self.raw = raw
        self.size = size
        self.line = 0
        self._encoding = encoding
        self._data = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == _GZIP else raw

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """Return the next line, with its end.

        Raises:
            LineError: it is too long or can't be decoded; the next call continues after it.
            TransferError: nothing more can be read.
        """
        line = self._read()
        if not line:
            raise StopIteration
        self.line += 1
        if len(line) > _MAX_LINE:
            while line and not line.endswith(b"\n"):
                line = self._read()
            raise LineError(f"longer than {_MAX_LINE:,} bytes; each line should hold one portfolio")
        try:
            text = line.decode(self._encoding)
        except UnicodeError as error:
            start = getattr(error, "start", 0)
            raise LineError(
                f"not {self._encoding}: byte 0x{line[start]:02x} at column {start + 1}; --encoding "
                "names another encoding, such as cp1252"
            ) from None
        return text.removeprefix("\ufeff") if self.line == 1 else text

    def _read(self) -> bytes:
        try:
            return self._data.readline(_MAX_LINE + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise TransferError(f"after line {self.line}: broken gzip data: {error}") from error


@contextmanager
def open_source(file: Path, encoding: str) -> Iterator[Lines]:
    """Open ``file`` for import.

    Raises:
        OSError: it can't be opened.
    """
    descriptor = descriptor_of(file, dash=0)
    opened = file if descriptor is None else descriptor
    with open(opened, "rb", closefd=descriptor is None) as raw:
        status = os.fstat(raw.fileno())
        yield Lines(raw, encoding, status.st_size if stat.S_ISREG(status.st_mode) else None)


@contextmanager
def open_part(path: Path, like: Path) -> Iterator[IO[bytes]]:
    """Open the unfinished export at ``path``, and lock it until the end of the context.

    It gets the mode of ``like``, the file that it will replace.

    Raises:
        TransferError: another export writes it.
        OSError: it can't be opened, or the file system has no locks.
    """
    # Never through a link: in a folder for everybody, others may have put one there.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    out = os.fdopen(descriptor, "rb+")
    try:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The previous owner of the lock may have put this very file in place.
            is_free = path.exists() and os.path.samefile(path, descriptor)
        except BlockingIOError:
            is_free = False
        if not is_free:
            raise TransferError(f"Another export is writing {path}")
        with suppress(FileNotFoundError):
            os.fchmod(descriptor, stat.S_IMODE(like.stat().st_mode))
        yield out
    finally:
        # After a write that failed this tries it again, and must not hide why it failed.
        with suppress(OSError):
            out.close()


def open_stream(file: Path) -> IO[bytes] | None:
    """Open ``file`` for writing if it is a pipe, a device or a descriptor; return None if not."""
    descriptor = descriptor_of(file, dash=1)
    if descriptor is not None:
        return open(descriptor, "wb", closefd=False)
    if file.exists() and not stat.S_ISREG(file.stat().st_mode):
        return os.fdopen(os.open(file, os.O_WRONLY), "wb")
    return None
