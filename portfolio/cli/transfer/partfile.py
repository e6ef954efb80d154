"""The unfinished file of an export: locked, resumed behind its last whole row, put in place."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from bson import ObjectId

from portfolio.cli.transfer.files import TransferError, lock
from portfolio.cli.transfer.formats import CSV_HEADER, ROW_ID

_CHUNK_BYTES = 2**16
_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 6


class PartFile:
    """The unfinished file of an export; ``open_part`` opens it.

    Args:
        path: where it is.
        out: the open file.
        format: ``ndjson`` or ``csv``.
        compressed: whether each step is written as a member of a gzip file.

    Attributes:
        count: the portfolios that were there when it was resumed.
        last: the id of the last one of them.
        is_empty: whether it holds nothing, not even the header of CSV.
    """

    def __init__(self, path: Path, out: IO[bytes], format: str, *, compressed: bool) -> None:
        self.path = path
        self.count = 0
        self.last: ObjectId | None = None
        self.is_empty = True
        self._out = out
        self._format = format
        self._compressed = compressed

    def resume(self) -> None:
        """Cut off a torn row at the end, and set ``count`` and ``last``.

        Raises:
            TransferError: it is not the beginning of an export.
        """
        end, last = 0, b""
        for size, rows in self._steps():
            if end == 0 and self._format == "csv" and next(rows, b"") != CSV_HEADER:
                raise self._not_an_export()
            for row in rows:
                found = ROW_ID[self._format].match(row)
                if found is None or found[1] <= last:
                    raise self._not_an_export()
                self.count, last = self.count + 1, found[1]
            end += size
        self.is_empty = end == 0
        if self.is_empty and self._format == "csv" and not self._compressed:
            self._out.seek(0)
            if not CSV_HEADER.startswith(self._out.read(len(CSV_HEADER))):
                raise self._not_an_export()
        self._out.truncate(end)
        self._out.seek(end)
        self.last = ObjectId(last.decode()) if last else None

    def restart(self) -> None:
        """Delete the content."""
        self._out.truncate(0)
        self._out.seek(0)

    def write(self, rows: bytes) -> None:
        """Write one step of rows; killing this process does not lose it."""
        self._out.write(compress(rows) if self._compressed else rows)
        self._out.flush()
        self.is_empty = False

    def put_in_place(self, target: Path) -> None:
        """Replace ``target``, with its mode and, as far as the user may, its owner."""
        descriptor = self._out.fileno()
        with suppress(FileNotFoundError):
            status = target.stat()
            for owner, group in ((status.st_uid, -1), (-1, status.st_gid)):
                with suppress(PermissionError):
                    os.fchown(descriptor, owner, group)
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
        os.fsync(descriptor)
        self.path.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _not_an_export(self) -> TransferError:
        return TransferError(
            f"{self.path} holds something else than the beginning of an export as {self._format}. "
            "Look what it is; --restart overwrites it."
        )

    def _steps(self) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Yield the size of each whole step, and its rows."""
        self._out.seek(0)
        if self._compressed:
            for size, content in self._members():
                yield size, _whole_rows(content.splitlines(keepends=True), self._format)
        else:
            for row in _whole_rows(self._out, self._format):
                yield len(row), iter([row])

    def _members(self) -> Iterator[tuple[int, bytes]]:
        """Yield the size of each whole member of a gzip file, and its content."""
        pending = b""
        while True:
            member = zlib.decompressobj(_GZIP)
            size, content = 0, b""
            while not member.eof:
                chunk = pending or self._out.read(_CHUNK_BYTES)
                pending = b""
                if not chunk:
                    return
                try:
                    content += member.decompress(chunk)
                except zlib.error:
                    raise self._not_an_export() from None
                size += len(chunk)
            pending = member.unused_data
            yield size - len(pending), content


@contextmanager
def open_part(path: Path, like: Path, format: str, *, compressed: bool) -> Iterator[PartFile]:
    """Open the unfinished export at ``path``, and lock it until the end of the context.

    Args:
        path: where it is, or will be.
        like: the file that it will replace; it gets that file's mode from the beginning.
        format: ``ndjson`` or ``csv``.
        compressed: whether it is a gzip file.

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
            if not _is_at(path, out):
                continue
            if not stat.S_ISREG(os.fstat(out.fileno()).st_mode):
                raise TransferError(f"{path} is no regular file. Look what it is and move it away.")
            with suppress(FileNotFoundError):
                os.fchmod(out.fileno(), stat.S_IMODE(like.stat().st_mode))
            yield PartFile(path, out, format, compressed=compressed)
            return


def compress(rows: bytes) -> bytes:
    """Return ``rows`` as one member of a gzip file."""
    # Not gzip.compress(): its header differs between Python's versions.
    member = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return member.compress(rows) + member.flush()


def _is_at(path: Path, out: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(out.fileno()))
    except FileNotFoundError:
        return False


def _whole_rows(lines: Iterable[bytes], format: str) -> Iterator[bytes]:
    row, quotes = b"", 0
    for line in lines:
        row += line
        quotes += line.count(b'"')
        # A row of CSV goes on while a quote is open; quotes within quotes are doubled.
        if line.endswith(b"\n") and (format == "ndjson" or quotes % 2 == 0):
            yield row
            row = b""
