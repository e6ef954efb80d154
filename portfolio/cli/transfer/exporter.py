"""Writing every portfolio to a file or a stream, in the order of their ids.

A regular file appears when all is written. Until then the rows are in ``FILE.part``, and a note
names the database that they come from, so that an export that was stopped can go on.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from bson import ObjectId

from portfolio.cli.helpers import from_database
from portfolio.cli.transfer.files import (
    STANDARD_OUTPUT,
    Note,
    NoteError,
    TransferError,
    descriptor_of,
    is_compressed,
    is_special,
)
from portfolio.cli.transfer.formats import CSV_HEADER, encoder
from portfolio.cli.transfer.importer import DATABASE_BUDGET_S
from portfolio.cli.transfer.partfile import PartFile, compress, open_part
from portfolio.cli.transfer.target import is_same_target, name_of
from portfolio.models import Portfolio
from portfolio.service import PortfolioService
from portfolio.storage.guard import budget

_RESTART = "--restart begins anew."
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Exporter:
    """Exports all portfolios.

    Args:
        service: reads them.
        target: the database, as ``describe_target`` returns it.
        format: ``ndjson`` or ``csv``.
        spreadsheet_safe: escape cells that a spreadsheet would take for formulas.
    """

    def __init__(
        self,
        service: PortfolioService,
        target: dict[str, str],
        format: str,
        *,
        spreadsheet_safe: bool = False,
    ) -> None:
        self._service = service
        self._options: dict[str, Any] = {
            "target": target,
            "format": format,
            "spreadsheet_safe": spreadsheet_safe,
        }
        self._format = format
        self._header = CSV_HEADER if format == "csv" else b""
        self._encode = encoder(format, spreadsheet_safe=spreadsheet_safe)

    def write_stream(self, out: IO[bytes], *, compressed: bool) -> None:
        """Write all portfolios to an open stream."""
        for rows, _ in self._steps(None, self._header):
            out.write(compress(rows) if compressed else rows)
            out.flush()

    def write_file(
        self,
        file: Path,
        *,
        restart: bool,
        resumed: Callable[[int, ObjectId], None],
        advanced: Callable[[int], None],
    ) -> int:
        """Write all portfolios to a regular file, or to the one that a link leads to.

        Args:
            file: where to write; what is there is replaced once all is written.
            restart: begin anew, whatever an earlier export has left.
            resumed: called with the number that an earlier export has left, and the last id.
            advanced: called with the number of portfolios that were added.

        Returns:
            how many the file holds.

        Raises:
            TransferError: what an earlier export has left does not fit.
            OSError: it can't be written.
        """
        target = Path(os.path.realpath(file))
        if not target.parent.is_dir():
            raise TransferError(f"{file}: there is no folder {target.parent}")
        if target.exists() and not os.access(target, os.W_OK):
            raise TransferError(f"{file}: Permission denied")
        path = target.with_name(f"{target.name}.part")
        note = Note(target.with_name(f"{path.name}.note"))
        compressed = is_compressed(file)
        with (
            _resumable(path),
            open_part(path, target, self._format, compressed=compressed) as part,
        ):
            self._prepare(part, note, restart=restart)
            if part.last is not None:
                resumed(part.count, part.last)
            advanced(part.count)
            written = part.count
            for rows, count in self._steps(part.last, self._header if part.is_empty else b""):
                part.write(rows)
                written += count
                advanced(count)
            part.put_in_place(target)
            note.remove()
        return written

    def _prepare(self, part: PartFile, note: Note, *, restart: bool) -> None:
        """Find out where to go on, and note the options of this export before it begins."""
        if restart:
            part.restart()
        elif os.path.getsize(part.path):
            part.resume()
            if part.count:
                self._check(part.path, note)
        note.write(self._options, durable=True)

    def _check(self, path: Path, note: Note) -> None:
        """Refuse to go on with an export of another database, or one with other options."""
        try:
            noted = note.read()
        except NoteError as error:
            raise TransferError(f"{note.path} {error}. {_RESTART}") from None
        if noted is None:
            raise TransferError(
                f"{note.path} is missing: it can't be told which database {path} comes from. "
                f"{_RESTART}"
            )
        before, target = noted.get("target"), self._options["target"]
        if not isinstance(before, dict) or not is_same_target(before, target):
            raise TransferError(
                f"{path} is of an export from {name_of(before or {})}; this is {name_of(target)}. "
                f"{_RESTART}"
            )
        if any(noted.get(key) != self._options[key] for key in ("format", "spreadsheet_safe")):
            raise TransferError(f"{path} was begun with other options. {_RESTART}")

    def _steps(self, after: ObjectId | None, header: bytes) -> Iterator[tuple[bytes, int]]:
        """Yield the bytes of each step and its number of portfolios; the header comes first."""
        for batch in self._batches(after):
            yield header + self._encode(batch), len(batch)
            header = b""
        if header:
            yield header, 0

    def _batches(self, after: ObjectId | None) -> Iterator[list[Portfolio]]:
        batches = self._service.list_by_id(None if after is None else str(after))
        while True:
            with budget(DATABASE_BUDGET_S):
                batch: list[Portfolio] = from_database(partial(next, batches, []))
            if not batch:
                return
            yield batch


@contextmanager
def _resumable(part: Path) -> Iterator[None]:
    """Tell the user of a full or broken disk that the export can go on."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        raise TransferError(
            f"{error.filename or part}: {error.strerror}. What was written stays in {part}; the "
            "same command goes on from there."
        ) from error


def open_stream(file: Path) -> IO[bytes] | None:
    """Open ``file`` for writing if it is a stream; return None for a regular file."""
    descriptor = descriptor_of(file, STANDARD_OUTPUT)
    if descriptor is not None:
        return os.fdopen(os.dup(descriptor), "wb")
    return os.fdopen(os.open(file, os.O_WRONLY), "wb") if is_special(file) else None
