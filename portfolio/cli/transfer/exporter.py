"""Writing every portfolio to a file or a stream, in the order of their ids.

A regular file appears when all is written. Until then the rows are in ``FILE.part``, and a note
says how far they go and which database they come from, so that an export that was stopped can go
on.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import click

from portfolio.cli.helpers import TRANSFER_BUDGET_S, database_errors, progress_bar
from portfolio.cli.transfer.files import (
    RESTART,
    TransferError,
    file_errors,
    is_compressed,
    open_part,
)
from portfolio.cli.transfer.formats import CSV_HEADER, encode_rows
from portfolio.cli.transfer.notes import Note, Target
from portfolio.models import Portfolio, Search
from portfolio.service import PortfolioService

# Enough to tell one step from another: it has an id, or a checksum.
_TAIL_SIZE = 64


class _Progress(NamedTuple):
    """What is written: its size and its last bytes, the number of portfolios and the last id."""

    size: int = 0
    tail: str = ""
    rows: int = 0
    last: str | None = None


@dataclass(frozen=True)
class Exporter:
    """Exports all portfolios to ``file``, as ``ndjson`` or ``csv``.

    With ``spreadsheet_safe``, cells that a spreadsheet would take for formulas are escaped.
    """

    service: PortfolioService
    file: Path
    format: str
    spreadsheet_safe: bool

    def write_stream(self, out: IO[bytes]) -> None:
        """Write all portfolios to an open stream."""
        for rows, _ in self._steps(_Progress()):
            out.write(rows)
            out.flush()

    def write_file(self, source: Target, *, restart: bool) -> int:
        """Write all portfolios to a regular file, or to the one that a link leads to.

        ``restart`` begins anew, whatever an earlier export has left.

        Returns:
            how many the file holds.

        Raises:
            TransferError: it can't be written, or what an earlier export has left does not fit.
        """
        target = Path(os.path.realpath(self.file))
        if not target.parent.is_dir():
            raise TransferError(f"{self.file}: there is no folder {target.parent}")
        if target.exists() and not os.access(target, os.W_OK):
            raise TransferError(f"{self.file}: Permission denied")
        path = target.with_name(f"{target.name}.part")
        options = {
            "format": self.format,
            "spreadsheet_safe": self.spreadsheet_safe,
            "compressed": is_compressed(self.file),
        }
        note = Note(path.with_name(f"{path.name}.note"), source, options)
        resumable = f"What was written stays in {path}; the same command goes on from there."
        with open_part(path, target) as out, file_errors(path, resumable):
            done = _Progress() if restart else self._find_progress(path, out, note)
            note.write(done._asdict())
            out.truncate(done.size)
            out.seek(done.size)
            with database_errors(TRANSFER_BUDGET_S):
                total = self.service.search(Search(limit=1)).total
            with progress_bar(total, "Exporting") as bar:
                bar.update(done.rows)
                for rows, batch in self._steps(done):
                    out.write(rows)
                    out.flush()  # killing this process does not lose it
                    tail = rows[-_TAIL_SIZE:].hex()
                    last = batch[-1].id if batch else None
                    done = _Progress(out.tell(), tail, done.rows + len(batch), last)
                    note.write(done._asdict())
                    bar.update(len(batch))
            with suppress(FileNotFoundError, PermissionError):
                os.fchown(out.fileno(), target.stat().st_uid, target.stat().st_gid)
            os.fsync(out.fileno())
            path.replace(target)
            _synchronize(target.parent)
            note.remove()
        return done.rows

    def _steps(self, done: _Progress) -> Iterator[tuple[bytes, list[Portfolio]]]:
        """Yield the bytes of each step and its portfolios; the header comes first."""
        header = CSV_HEADER if self.format == "csv" and not done.size else b""
        batches = self.service.list_by_id(done.last)
        while True:
            with database_errors(TRANSFER_BUDGET_S):
                batch = next(batches, [])
            rows = encode_rows(batch, self.format, spreadsheet_safe=self.spreadsheet_safe)
            step, header = header + rows, b""
            if step:
                yield gzip.compress(step, 6, mtime=0) if is_compressed(self.file) else step, batch
            if not batch:
                return

    def _find_progress(self, path: Path, out: IO[bytes], note: Note) -> _Progress:
        """Return how far the export in ``path``, which is opened as ``out``, has come."""
        if not os.fstat(out.fileno()).st_size:
            return _Progress()
        noted = note.read()
        if noted is None:
            raise TransferError(
                f"{note.path} is missing: it can't be told which database {path} comes from. Look "
                "what it is; --restart overwrites it."
            )
        begun = _Progress(**noted)
        tail = bytes.fromhex(begun.tail)
        out.seek(begun.size - len(tail))
        if out.read(len(tail)) != tail:
            raise TransferError(
                f"{path} is not what {note.path} is of: it was cut or exchanged. {RESTART}"
            )
        if begun.rows:
            click.echo(
                f"Going on after {begun.rows} portfolios, behind {begun.last}; --restart begins "
                "anew"
            )
        return begun


def _synchronize(folder: Path) -> None:
    """Wait until the names in ``folder`` have reached the disk, where its file system can tell."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
