"""The files and streams of a transfer: what their names say, opening, locking and reading them."""

from __future__ import annotations

import codecs
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
from typing import IO, Any

import click

RESTART = "--restart begins anew: an import leaves alone what is stored already."
_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
_UTF_16_STARTS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# A portfolio takes some hundred bytes; far longer lines are from files without line ends.
_MAX_LINE = 2**20
# A byte that is not text, as Python's error handler surrogateescape decodes it.
_NOT_TEXT = re.compile("[\udc80-\udcff]")


class TransferError(click.ClickException):
    """The transfer can't go on; the message says why and what to do."""


@contextmanager
def file_errors(file: Path, consequence: str = "") -> Iterator[None]:
    """Turn an ``OSError`` into a ``TransferError`` that names the file, or ``file`` if it does not.

    A broken pipe is left to end the command in silence, as it ends others. ``consequence`` is a
    sentence that follows.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        message = f"{error.filename or file}: {error.strerror or error}. {consequence}".rstrip()
        raise TransferError(message) from error


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
        given = _uncompressed_name(file) if descriptor_of(file, dash=0) is None else "-"
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


class LineError(Exception):
    """One line can't be read, the next may be; the message says why."""


class Lines:
    """The lines of a file or a stream as text, without a byte order mark.

    Attributes:
        raw: what is read.
        size: the bytes in ``raw``; None for a stream.
        line: how many lines were read.
    """

    def __init__(
        self, raw: Any, encoding: str, *, compressed: bool = False, size: int | None = None
    ) -> None:
        self.raw = raw
        self.size = size
        self.line = 0
        self._encoding = encoding
        # Only where a character begins at any byte can the next line be found behind a bad one.
        errors = "strict" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
        data: Any = gzip.GzipFile(fileobj=raw) if compressed else raw
        self._text = io.TextIOWrapper(data, encoding, errors, newline="\n")

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """Return the next line, with its end.

        Raises:
            LineError: it is too long or can't be decoded; the next call goes on behind it.
            TransferError: nothing more can be read.
        """
        line = self._read()
        if not line:
            raise StopIteration
        self.line += 1
        if len(line) > _MAX_LINE:
            while line and not line.endswith("\n"):
                line = self._read()
            raise LineError(f"longer than {_MAX_LINE:,} bytes")
        bad = _NOT_TEXT.search(line)
        if bad:
            raise LineError(
                f"not {self._encoding}: byte 0x{ord(bad[0]) - 0xDC00:02x} at column "
                f"{bad.start() + 1}; --encoding names another encoding, such as cp1252"
            )
        return line.removeprefix("\ufeff") if self.line == 1 else line

    def _read(self) -> str:
        try:
            return self._text.readline(_MAX_LINE + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise TransferError(f"after line {self.line}: broken gzip data: {error}") from error
        except UnicodeError as error:  # such as the lack of a byte order mark
            raise TransferError(
                f"after line {self.line}: not {self._encoding}: {getattr(error, 'reason', error)}; "
                "--encoding names another encoding"
            ) from error


@contextmanager
def open_source(file: Path, encoding: str) -> Iterator[Lines]:
    """Open ``file`` for import; a regular file is locked, so that it is imported once at a time.

    Raises:
        TransferError: another import reads it, or its content is of another kind.
        OSError: it can't be opened.
    """
    descriptor = descriptor_of(file, dash=0)
    is_path = descriptor is None
    with open(file if descriptor is None else descriptor, "rb", closefd=is_path) as raw:
        status = os.fstat(raw.fileno())
        size = status.st_size if is_path and stat.S_ISREG(status.st_mode) else None
        if size is not None:
            # A network file system may have no locks. Two imports at once waste time, no more.
            with suppress(OSError):
                _lock(raw, f"Another import is reading {file}: wait until it has ended.")
        compressed = is_compressed(file)
        if not compressed and raw.peek(2).startswith(b"\x1f\x8b"):
            raise TransferError(
                "This is compressed with gzip: its name should end in .gz; or pipe it through zcat."
            )
        if not compressed and encoding == "utf-8" and raw.peek(2).startswith(_UTF_16_STARTS):
            raise TransferError("line 1: this is UTF-16: add --encoding utf-16")
        yield Lines(raw, encoding, compressed=compressed, size=size)


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
        return open(descriptor, "wb", closefd=False)
    if file.exists() and not stat.S_ISREG(file.stat().st_mode):
        return os.fdopen(os.open(file, os.O_WRONLY), "wb")
    return None
