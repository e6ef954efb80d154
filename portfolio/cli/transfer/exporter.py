"""Writing every portfolio to a file or a stream, in the order of their ids.

A regular file appears when all is written. Until then the rows are in ``FILE.part``, and the note
``FILE.part.note`` says how far they go and which database they come from, so that an export that
was stopped can be resumed.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import click

from portfolio.cli.helpers import TRANSFER_BUDGET_S, database_errors, progress_bar
from portfolio.cli.transfer.files import TransferError, file_errors, is_compressed, open_part
from portfolio.cli.transfer.formats import CSV_HEADER, encode_rows
from portfolio.models import Portfolio, Search
from portfolio.observability.shared_state import replace_file
from portfolio.service import PortfolioService

# Enough to tell one step from another: it has an id, or a checksum.
_TAIL_SIZE = 64


class _Progress(NamedTuple):
    """The note: what ``FILE.part`` holds.

    Attributes:
        database: where its rows come from.
        format: how they are written.
        size: its bytes up to the last complete step.
        tail: the last of these bytes, in hexadecimal.
        rows: the number of portfolios.
        last: the id of the last one.
    """

    database: str
    format: str
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
        for rows, _ in self._steps():
            out.write(rows)
            out.flush()

    def write_file(self, database: str, *, restart: bool) -> int:
        """Write all portfolios to a regular file, or to the one that a link leads to.

        ``database`` names the source. ``restart`` overwrites what an earlier export has left.

        Returns:
            how many the file holds.

        Raises:
            TransferError: it can't be written, or what an earlier export has left does not fit.
        """
        target = Path(os.path.realpath(self.file))
        if target.exists() and not os.access(target, os.W_OK):
            raise TransferError(f"{self.file}: Permission denied")
        part = target.with_name(f"{target.name}.part")
        note = target.with_name(f"{part.name}.note")
        compressed = ", compressed" if is_compressed(self.file) else ""
        escaped = ", spreadsheet-safe" if self.spreadsheet_safe else ""
        done = _Progress(database, f"{self.format}{compressed}{escaped}")
        resumable = f"What was written stays in {part}; the same command resumes from there."
        with open_part(part, target) as out, file_errors(part, resumable):
            if not restart and os.fstat(out.fileno()).st_size:
                done = _read_progress(out, part, note, done)
            out.truncate(done.size)
            out.seek(done.size)
            with database_errors(TRANSFER_BUDGET_S):
                total = self.service.search(Search(limit=1)).total
            with progress_bar(total, "Exporting") as bar:
                bar.update(done.rows)
                for rows, batch in self._steps(done.size, done.last):
                    out.write(rows)
                    out.flush()  # killing this process does not lose it
                    done = done._replace(
                        size=out.tell(),
                        tail=rows[-_TAIL_SIZE:].hex(),
                        rows=done.rows + len(batch),
                        last=batch[-1].id if batch else None,
                    )
                    replace_file(note, json.dumps(done._asdict(), indent=1).encode(), draft="new")
                    bar.update(len(batch))
            with suppress(FileNotFoundError, PermissionError):
                os.fchown(out.fileno(), target.stat().st_uid, target.stat().st_gid)
            os.fsync(out.fileno())
            part.replace(target)
            _synchronize(target.parent)
            note.unlink(missing_ok=True)
        return done.rows

    def _steps(
        self, size: int = 0, last: str | None = None
    ) -> Iterator[tuple[bytes, list[Portfolio]]]:
        """Yield the bytes of each step behind ``size`` and ``last``, and its portfolios."""
        if self.format == "csv" and not size:
            yield self._pack(CSV_HEADER), []
        batches = self.service.list_by_id(last)
        while True:
            with database_errors(TRANSFER_BUDGET_S):
                batch = next(batches, None)
            if not batch:
                return
            rows = encode_rows(batch, self.format, spreadsheet_safe=self.spreadsheet_safe)
            yield self._pack(rows), batch

    def _pack(self, rows: bytes) -> bytes:
        return gzip.compress(rows, 6) if is_compressed(self.file) else rows


def _read_progress(out: IO[bytes], part: Path, note: Path, begin: _Progress) -> _Progress:
    """Return how far the export in ``out``, which is ``part``, has come.

    Raises:
        TransferError: it is not the beginning of this export, whose note would be ``begin``.
    """
    restart = "--restart overwrites it."
    try:
        done = _Progress(**json.loads(note.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        raise TransferError(
            f"{note} is missing or damaged: what {part} holds is not known. {restart}"
        ) from None
    if done[:2] != begin[:2]:
        raise TransferError(
            f"{part} has portfolios of {done.database} as {done.format}; this is {begin.database} "
            f"as {begin.format}. {restart}"
        )
    tail = bytes.fromhex(done.tail)
    out.seek(done.size - len(tail))
    if out.read(len(tail)) != tail:
        raise TransferError(
            f"{part} does not match {note}: it was truncated or replaced. {restart}"
        )
    if done.rows:
        click.echo(f"Resuming after {done.rows} portfolios; --restart starts again")
    return done


def _synchronize(folder: Path) -> None:
    """Wait until the names in ``folder`` have reached the disk, where its file system can tell."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
