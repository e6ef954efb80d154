"""Writing every portfolio to a file or a stream, in the order of their ids.

A regular file appears when all is written. Until then, what there is stands in ``FILE.part``, and
a note says which database it comes from; whatever stopped the export, it can go on from there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from bson import ObjectId

from portfolio.cli.helpers import from_database
from portfolio.cli.transfer.errors import TransferError
from portfolio.cli.transfer.formats import CSV_HEADER, encoder, is_compressed
from portfolio.cli.transfer.importer import PATIENCE_S
from portfolio.cli.transfer.notes import Note, NoteError
from portfolio.cli.transfer.partfile import PartFile, compress, open_part
from portfolio.cli.transfer.streams import STANDARD_OUTPUT, descriptor_of, is_special
from portfolio.cli.transfer.target import is_same_target, name_of
from portfolio.models import Portfolio
from portfolio.service import PortfolioService
from portfolio.storage.guard import budget

_RESTART = "--restart begins anew."
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@dataclass(frozen=True)
class Layout:
    """How portfolios are written.

    Attributes:
        format: ``ndjson`` or ``csv``.
        spreadsheet_safe: escape cells that a spreadsheet would take for formulas.
    """

    format: str
    spreadsheet_safe: bool = False


class Exporter:
    """Exports all portfolios.

    Args:
        service: reads them.
        target: the database, as ``describe_target`` gives it.
        layout: how they are written.
    """

    def __init__(self, service: PortfolioService, target: dict[str, str], layout: Layout) -> None:
        self._service = service
        self._target = target
        self._layout = layout
        self._encode = encoder(layout.format, spreadsheet_safe=layout.spreadsheet_safe)

    def write_stream(self, out: IO[bytes], *, compressed: bool) -> None:
        """Write all portfolios to an open stream."""
        header = CSV_HEADER if self._layout.format == "csv" else b""
        for batch in self._batches(None):
            rows = header + self._encode(batch)
            out.write(compress(rows) if compressed else rows)
            out.flush()
            header = b""
        if header:
            out.write(compress(header) if compressed else header)

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
            resumed: told how many an earlier export has left, and the id of the last.
            advanced: told how many have been added.

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
            open_part(path, target, self._layout.format, compressed=compressed) as part,
        ):
            self._prepare(part, note, restart=restart)
            if part.last is not None:
                resumed(part.count, part.last)
            advanced(part.count)
            written = part.count
            header = CSV_HEADER if part.is_empty and self._layout.format == "csv" else b""
            for batch in self._batches(part.last):
                part.write(header + self._encode(batch))
                header = b""
                written += len(batch)
                advanced(len(batch))
            if header:
                part.write(header)
            part.put_in_place(target)
            note.remove()
        return written

    def _prepare(self, part: PartFile, note: Note, *, restart: bool) -> None:
        """Find out where to go on, and note what this export is of before it begins."""
        now = {
            "target": self._target,
            "format": self._layout.format,
            "spreadsheet_safe": self._layout.spreadsheet_safe,
        }
        if restart:
            part.restart()
        elif os.path.getsize(part.path):
            part.resume()
            if part.count:
                self._check(part.path, note, now)
        note.write(now, durable=True)

    def _check(self, path: Path, note: Note, now: dict[str, Any]) -> None:
        try:
            noted = note.read()
        except NoteError as error:
            raise TransferError(f"{note.path} {error}. {_RESTART}") from None
        if noted is None:
            raise TransferError(
                f"{note.path} is missing: it can't be told which database {path} comes from. "
                f"{_RESTART}"
            )
        before = noted.get("target")
        if not isinstance(before, dict) or not is_same_target(before, self._target):
            raise TransferError(
                f"{path} is of an export from {name_of(before or {})}; this is "
                f"{name_of(self._target)}. {_RESTART}"
            )
        if any(noted.get(key) != now[key] for key in ("format", "spreadsheet_safe")):
            raise TransferError(f"{path} was begun with other options. {_RESTART}")

    def _batches(self, after: ObjectId | None) -> Iterator[list[Portfolio]]:
        batches = self._service.list_by_id(after)
        while True:
            with budget(PATIENCE_S):
                batch: list[Portfolio] = from_database(partial(next, batches, []))
            if not batch:
                return
            yield batch


@contextmanager
def _resumable(part: Path) -> Iterator[None]:
    """Say of a disk that is full or broken that the export can go on."""
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
    """Open ``file`` for writing where it is a stream; return None for a regular file.

    A named pipe or a device is opened, which may wait for its reader; it is never replaced.

    Raises:
        OSError: it can't be opened.
    """
    descriptor = descriptor_of(file, STANDARD_OUTPUT)
    if descriptor is not None:
        return os.fdopen(os.dup(descriptor), "wb")
    return os.fdopen(os.open(file, os.O_WRONLY), "wb") if is_special(file) else None
