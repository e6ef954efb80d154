"""The unfinished file of an export: locked, and resumed behind its last whole row."""

from __future__ import annotations

import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from portfolio.cli.transfer.files import lock
from portfolio.cli.transfer.formats import CSV_HEADER, ROW_ID

_CHUNK_BYTES = 2**16
_GZIP = 16 + zlib.MAX_WBITS


class WholeRows(NamedTuple):
    """What an unfinished file holds: the size in bytes, the number and the last id of its rows."""

    size: int = 0
    rows: int = 0
    last: str | None = None


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
            lock(out, f"Another export is writing {path}")
            # The previous owner of the lock may have put this very file in place.
            if not (path.exists() and os.path.samefile(path, descriptor)):
                continue
            with suppress(FileNotFoundError):
                os.fchmod(descriptor, stat.S_IMODE(like.stat().st_mode))
            yield out
            return


def compress(rows: bytes) -> bytes:
    """Return ``rows`` as one member of a gzip file: a step that can be resumed behind."""
    return gzip.compress(rows, 6, mtime=0)


def find_whole_rows(part: IO[bytes], format: str, *, compressed: bool) -> WholeRows:
    """Return the rows of ``part`` up to the last whole one.

    Raises:
        ValueError: it is not the beginning of an export.
    """
    part.seek(0)
    size, count, last = 0, 0, b""
    for step_size, lines in _members(part) if compressed else _lines(part, format):
        rows = _join_rows(lines, format)
        if size == 0 and format == "csv" and next(rows, b"") != CSV_HEADER:
            raise ValueError
        for row in rows:
            found = ROW_ID[format].match(row)
            if found is None or found[1] <= last:
                raise ValueError
            count, last = count + 1, found[1]
        size += step_size
    return WholeRows(size, count, last.decode() or None)


def _lines(part: IO[bytes], format: str) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the size of each whole row, and the row."""
    for row in _join_rows(part, format):
        yield len(row), [row]


def _members(part: IO[bytes]) -> Iterator[tuple[int, Iterable[bytes]]]:
    """Yield the size of each whole member of a gzip file, and its lines."""
    data = b""
    while True:
        member, size, content = zlib.decompressobj(_GZIP), 0, b""
        while not member.eof:
            data = data or part.read(_CHUNK_BYTES)
            if not data:
                return
            try:
                content += member.decompress(data)
            except zlib.error as error:
                raise ValueError from error
            size += len(data)
            data = member.unused_data
        yield size - len(data), io.BytesIO(content)


def _join_rows(lines: Iterable[bytes], format: str) -> Iterator[bytes]:
    """Yield the whole rows: a row of CSV goes on while a quote is open."""
    row, quotes = b"", 0
    for line in lines:
        row += line
        quotes += line.count(b'"')  # quotes within quotes are doubled
        if line.endswith(b"\n") and (format == "ndjson" or quotes % 2 == 0):
            yield row
            row = b""
