"""The input of an import: a file, a compressed file or a stream, as lines of text."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from portfolio.cli.transfer.files import (
    STANDARD_INPUT,
    TransferError,
    descriptor_of,
    is_compressed,
    lock,
)

# A portfolio takes some hundred bytes; far longer lines are from files without line ends.
_MAX_LINE = 2**20
_UTF_16_STARTS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# A byte that is not text, as Python's error handler surrogateescape decodes it.
_NOT_TEXT = re.compile("[\udc80-\udcff]")


class LineError(Exception):
    """One line can't be read, the next may be; the message says why."""


class Position(NamedTuple):
    """A place in the data: the lines before it, their bytes in UTF-8, and the digest of these."""

    line: int
    size: int
    sha256: str


START = Position(0, 0, hashlib.sha256().hexdigest())


class Lines:
    """The lines of the data as text, and how far they have been read.

    Args:
        data: what to read, in bytes; uncompressed.
        encoding: how text is encoded; a byte order mark is left out.

    Attributes:
        line: how many lines were read.
    """

    def __init__(self, data: Any, encoding: str) -> None:
        self.line = 0
        self._encoding = encoding
        # Only where a character begins at any byte can the next line be found behind a bad one.
        errors = "strict" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
        self._text = io.TextIOWrapper(data, encoding, errors, newline="\n")
        self._digest = hashlib.sha256()
        self._size = 0

    def position(self) -> Position:
        """Return how far was read."""
        return Position(self.line, self._size, self._digest.hexdigest())

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
            line = self._text.readline(_MAX_LINE + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise TransferError(f"after line {self.line}: broken gzip data: {error}") from error
        except UnicodeDecodeError as error:
            raise TransferError(
                f"after line {self.line}: not {self._encoding}: {error.reason}; --encoding names "
                "another encoding"
            ) from error
        text = line.encode(errors="surrogateescape")
        self._digest.update(text)
        self._size += len(text)
        return line


class Source(NamedTuple):
    """An opened file to import, and its size in bytes; None for a stream, which has no size."""

    lines: Lines
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
        descriptor = descriptor_of(file, STANDARD_INPUT)
        opened = file.open("rb") if descriptor is None else os.fdopen(os.dup(descriptor), "rb")
        raw: Any = stack.enter_context(opened)
        status = os.fstat(raw.fileno())
        is_stream = descriptor is not None or not stat.S_ISREG(status.st_mode)
        if not is_stream:
            # A network file system may have no locks. Two imports at once waste time, no more.
            with suppress(OSError):
                lock(raw, f"Another import is reading {file}: wait until it has ended.")
        data = raw
        if is_compressed(file):
            data = stack.enter_context(gzip.GzipFile(fileobj=raw))
        elif raw.peek(2).startswith(b"\x1f\x8b"):
            raise TransferError(
                "This is compressed with gzip: its name should end in .gz; or pipe it through zcat."
            )
        elif encoding == "utf-8" and raw.peek(2).startswith(_UTF_16_STARTS):
            raise TransferError("line 1: this is UTF-16: add --encoding utf-16")
        yield Source(Lines(data, encoding), raw, None if is_stream else status.st_size)
