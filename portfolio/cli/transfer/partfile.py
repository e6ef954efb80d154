"""The unfinished file of an export: locked, resumed behind its last whole rows, put in place."""

from __future__ import annotations

import fcntl
import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from bson import ObjectId

from portfolio.cli.transfer.errors import TransferError
from portfolio.cli.transfer.formats import CSV_HEADER, ROW_ID

_CHUNK_BYTES = 2**16
_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 6


class PartFile:
    """An export that is not finished yet; ``open_part`` makes it.

    Args:
        path: where it is.
        out: the open file.
        format: of its rows.
        compressed: whether each step is written as a member of a gzip file.
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
        """Cut a torn last row off; ``count`` and ``last`` tell what is left.

        Raises:
            TransferError: it holds something else than the beginning of an export.
        """
        end = 0
        last = b""
        for size, rows in self._steps():
            for row in rows:
                found = ROW_ID[self._format].match(row)
                if found is None or found[1] <= last:
                    raise self.strange()
                self.count, last = self.count + 1, found[1]
            end += size
        self._out.truncate(end)
        self._out.seek(end)
        self.is_empty = end == 0
        self.last = ObjectId(last.decode()) if last else None

    def restart(self) -> None:
        """Throw away what it holds."""
        self._out.truncate(0)
        self._out.seek(0)

    def write(self, rows: bytes) -> None:
        """Write one step of rows, so far that a kill of this process does not lose it."""
        self._out.write(compress(rows) if self._compressed else rows)
        self._out.flush()
        self.is_empty = False

    def put_in_place(self, target: Path) -> None:
        """Let it take the place of ``target``, with the mode and the owner of that."""
        with suppress(FileNotFoundError):
            copy_owner(target, self._out.fileno())
        os.fsync(self._out.fileno())
        self.path.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def strange(self) -> TransferError:
        """Return the refusal of what is no beginning of an export."""
        return TransferError(
            f"{self.path} holds something else than the beginning of an export as {self._format}. "
            "Look what it is; --restart overwrites it."
        )

    def _steps(self) -> Iterator[tuple[int, list[bytes]]]:
        """Yield the whole steps that it holds: the bytes that each takes, and its rows."""
        self._out.seek(0)
        if self._compressed:
            members = self._members()
        else:
            header = self._out.readline() if self._format == "csv" else b""
            if not CSV_HEADER.startswith(header):
                raise self.strange()
            if header and header != CSV_HEADER:
                return
            yield len(header), []
            for row in _whole_rows(self._out, self._format):
                yield len(row), [row]
            return
        for number, (size, content) in enumerate(members):
            rows = content
            if number == 0 and self._format == "csv":
                if not content.startswith(CSV_HEADER):
                    raise self.strange()
                rows = content[len(CSV_HEADER) :]
            yield size, list(_whole_rows(rows.splitlines(keepends=True), self._format))

    def _members(self) -> Iterator[tuple[int, bytes]]:
        """Yield the whole members of a gzip file: the bytes that each takes, and its content."""
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
                    raise self.strange() from None
                size += len(chunk)
            pending = member.unused_data
            yield size - len(pending), content


@contextmanager
def open_part(path: Path, like: Path, format: str, *, compressed: bool) -> Iterator[PartFile]:
    """Open the unfinished export at ``path`` and lock it until the end of the context.

    Args:
        path: where it is, or will be.
        like: the file that it will replace; it is as private as that from the beginning.
        format: of its rows.
        compressed: whether it is a gzip file.

    Raises:
        TransferError: another export writes it.
        OSError: it can't be opened.
    """
    while True:
        # Never through a link: others may have put one there, in a folder for everybody.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with os.fdopen(descriptor, "rb+") as out:
            _lock(out, path)
            # Whoever held the lock before may have put this very file in place.
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
    # Not gzip.compress(), whose header differs between Python's versions.
    member = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return member.compress(rows) + member.flush()


def copy_owner(source: Path, descriptor: int) -> None:
    """Give the open file the owner, as far as the user may, and the mode of ``source``."""
    status = source.stat()
    for owner, group in ((status.st_uid, -1), (-1, status.st_gid)):
        with suppress(PermissionError):
            os.fchown(descriptor, owner, group)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


def _lock(out: IO[bytes], path: Path) -> None:
    # Held until the file is closed, if only by the end of the process, however it ends.
    try:
        fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TransferError(f"Another export is writing {path}") from None


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
        # In CSV a row goes on while a quote is open; a quote within quotes is doubled.
        if line.endswith(b"\n") and (format == "ndjson" or quotes % 2 == 0):
            yield row
            row = b""
