"""The input of an import: a file, a compressed file or a stream, as lines of text."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from portfolio.cli.transfer.files import (
    STANDARD_INPUT,
    TransferError,
    descriptor_of,
    is_compressed,
    lock,
)

DEFAULT_ENCODING = "utf-8"
# A portfolio takes some hundred bytes; far longer lines are from files without line ends.
_MAX_LINE_BYTES = 2**20
_GZIP_START = b"\x1f\x8b"
_UTF_16_STARTS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ASCII = bytes(range(128))


class LineError(Exception):
    """One line can't be read, the next may be; the message says why."""


class Position(NamedTuple):
    """A place in the data, and what lies before it.

    Attributes:
        line: how many lines.
        size: how many bytes of text in UTF-8.
        sha256: their digest.
    """

    line: int
    size: int
    sha256: str


START = Position(0, 0, hashlib.sha256().hexdigest())


class Lines:
    """The lines of the data as text, and how far they have been read.

    Args:
        data: what to read; uncompressed.
        encoding: how text is encoded; a byte order mark is left out.
    """

    def __init__(self, data: IO[bytes], encoding: str) -> None:
        self._encoding = encoding
        self._read = _line_reader(data, encoding)
        self._digest = hashlib.sha256()
        self._size = 0
        self._line = 0

    @property
    def line(self) -> int:
        """How many lines were read."""
        return self._line

    def position(self) -> Position:
        """Return how far was read."""
        return Position(self._line, self._size, self._digest.hexdigest())

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """Return the next line, with its end.

        Raises:
            LineError: it is too long or can't be decoded; the next call goes on behind it.
            TransferError: nothing more can be read.
        """
        line = self._next_bytes()
        if not line:
            raise StopIteration
        self._line += 1
        if not line.endswith(b"\n") and len(line) > _MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                self._count(line)
                line = self._next_bytes()
            self._count(line)
            raise LineError(f"longer than {_MAX_LINE_BYTES:,} bytes")
        first = self._line == 1
        if first and line.startswith(_GZIP_START):
            raise TransferError(
                "This is compressed with gzip: its name should end in .gz; or pipe it through zcat."
            )
        return self._decode(line, first=first)

    def _next_bytes(self) -> bytes:
        try:
            line = self._read()
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise TransferError(f"after line {self._line}: broken gzip data: {error}") from error
        except UnicodeDecodeError as error:
            raise TransferError(
                f"line {self._line + 1}: not {self._encoding}: {error.reason}; --encoding names "
                "another encoding"
            ) from error
        return line

    def _count(self, text: bytes) -> None:
        self._digest.update(text)
        self._size += len(text)

    def _decode(self, line: bytes, *, first: bool) -> str:
        if first and self._encoding == DEFAULT_ENCODING and line.startswith(_UTF_16_STARTS):
            raise TransferError("line 1: this is UTF-16: add --encoding utf-16")
        encoding = self._encoding if _is_like_ascii(self._encoding) else DEFAULT_ENCODING
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError as error:
            self._count(line)
            wrong = line[error.start]
            raise LineError(
                f"not {encoding}: byte 0x{wrong:02x} at column {error.start + 1}; --encoding names "
                "another encoding, such as cp1252"
            ) from None
        self._count(text.encode())
        return text.removeprefix("\ufeff") if first else text


@dataclass
class Source:
    """An opened file or stream to import.

    Attributes:
        file: its name as the user gave it.
        lines: its content.
        is_stream: whether it can be read only once, and so has no note of progress.
        size: its size on disk in bytes; 0 for a stream.
        read: returns how many of these bytes were read.
    """

    file: Path
    lines: Lines
    is_stream: bool
    size: int
    read: Callable[[], int]


@contextmanager
def open_source(file: Path, encoding: str) -> Iterator[Source]:
    """Open ``file`` for import; a regular file is locked, so that it is imported once at a time.

    Args:
        file: a file, compressed where it ends in .gz, a named pipe, or ``-``.
        encoding: how its text is encoded.

    Raises:
        TransferError: another import reads it.
        OSError: it can't be opened.
    """
    with ExitStack() as stack:
        descriptor = descriptor_of(file, STANDARD_INPUT)
        opened = file.open("rb") if descriptor is None else os.fdopen(os.dup(descriptor), "rb")
        raw: Any = stack.enter_context(opened)
        status = os.fstat(raw.fileno())
        is_stream = descriptor is not None or not stat.S_ISREG(status.st_mode)
        if not is_stream:
            # A network file system may have no locks. Two imports at once waste time, no more.
            with suppress(OSError):
                lock(raw, f"Another import is reading {file}: wait until it has ended.")
        data: Any = raw
        if is_compressed(file):
            data = stack.enter_context(gzip.GzipFile(fileobj=raw))
        yield Source(
            file=file,
            lines=Lines(data, encoding),
            is_stream=is_stream,
            size=0 if is_stream else status.st_size,
            read=(lambda: 0) if is_stream else raw.tell,
        )


def check_encoding(encoding: str) -> str:
    """Return the usual name of ``encoding``.

    Raises:
        LookupError: Python knows no encoding of text with this name.
    """
    "".encode(encoding)
    name = codecs.lookup(encoding).name
    return DEFAULT_ENCODING if name == "utf-8-sig" else name


def _line_reader(data: IO[bytes], encoding: str) -> Callable[[], bytes]:
    """Return the function that reads a line, as UTF-8 if the encoding is not like ASCII."""
    if _is_like_ascii(encoding):
        return lambda: data.readline(_MAX_LINE_BYTES + 1)
    decoded = codecs.getreader(encoding)(data)
    return lambda: decoded.readline().encode()


def _is_like_ascii(encoding: str) -> bool:
    """Return whether line ends are bytes of ASCII: not in UTF-16, nor in EBCDIC."""
    try:
        return _ASCII.decode(encoding) == _ASCII.decode("ascii")
    except UnicodeDecodeError:
        return False
