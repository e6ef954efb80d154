"""Writing every portfolio to a file or a stream, in the order of their ids.

A regular file appears when all is written. Until then the rows are in ``FILE.part``, and a note
names the database that they come from, so that an export that was stopped can go on.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import click

from portfolio.cli.helpers import TRANSFER_BUDGET_S, database_errors, progress_bar
from portfolio.cli.transfer.files import (
    RESTART,
    STANDARD_OUTPUT,
    Note,
    Target,
    TransferError,
    descriptor_of,
    file_errors,
    is_compressed,
)
from portfolio.cli.transfer.formats import CSV_HEADER, encode_rows
from portfolio.cli.transfer.partfile import WholeRows, compress, find_whole_rows, open_part
from portfolio.models import Portfolio, Search
from portfolio.service import PortfolioService


class Exporter:
    """Exports all portfolios to ``file``, as ``ndjson`` or ``csv``.

    With ``spreadsheet_safe``, cells that a spreadsheet would take for formulas are escaped.
    """

    def __init__(
        self, service: PortfolioService, file: Path, format: str, *, spreadsheet_safe: bool
    ) -> None:
        self._service = service
        self._file = file
        self._compressed = is_compressed(file)
        self._format = format
        self._spreadsheet_safe = spreadsheet_safe

    def write_stream(self, out: IO[bytes]) -> None:
        """Write all portfolios to an open stream."""
        for rows, _ in self._steps(WholeRows()):
            out.write(rows)
            out.flush()

    def write_file(self, source: Target, *, restart: bool) -> int:
        """Write all portfolios to a regular file, or to the one that a link leads to.

        Args:
            source: the database.
            restart: begin anew, whatever an earlier export has left.

        Returns:
            how many the file holds.

        Raises:
            TransferError: it can't be written, or what an earlier export has left does not fit.
        """
        target = Path(os.path.realpath(self._file))
        if not target.parent.is_dir():
            raise TransferError(f"{self._file}: there is no folder {target.parent}")
        if target.exists() and not os.access(target, os.W_OK):
            raise TransferError(f"{self._file}: Permission denied")
        path = target.with_name(f"{target.name}.part")
        options = {"format": self._format, "spreadsheet_safe": self._spreadsheet_safe}
        note_path = path.with_name(f"{path.name}.note")
        note = Note(note_path, f"{path} is of an export from", source, options)
        resumable = f". What was written stays in {path}; the same command goes on from there."
        with file_errors(path, resumable), open_part(path, target) as out:
            begun = WholeRows() if restart else self._resume(path, out, note)
            note.write({}, durable=True)
            out.truncate(begun.size)
            out.seek(begun.size)
            count = self._write_part(out, begun)
            with suppress(FileNotFoundError, PermissionError):
                os.fchown(out.fileno(), target.stat().st_uid, target.stat().st_gid)
            os.fsync(out.fileno())
            path.replace(target)
            note.remove()
        return count

    def _resume(self, path: Path, out: IO[bytes], note: Note) -> WholeRows:
        try:
            begun = find_whole_rows(out, self._format, compressed=self._compressed)
        except ValueError:
            raise TransferError(
                f"{path} holds something else than the beginning of an export as {self._format}. "
                "Look what it is; --restart overwrites it."
            ) from None
        if begun.size and note.read() is None:
            raise TransferError(
                f"{note.path} is missing: it can't be told which database {path} comes from. "
                f"{RESTART}"
            )
        if begun.rows:
            click.echo(
                f"Going on after {begun.rows} portfolios, behind {begun.last}; --restart begins "
                "anew"
            )
        return begun

    def _write_part(self, out: IO[bytes], begun: WholeRows) -> int:
        with database_errors(TRANSFER_BUDGET_S):
            total = self._service.search(Search(limit=1)).total
        count = begun.rows
        with progress_bar(total, "Exporting") as bar:
            bar.update(count)
            for rows, added in self._steps(begun):
                out.write(rows)
                out.flush()  # killing this process does not lose it
                count += added
                bar.update(added)
        return count

    def _steps(self, begun: WholeRows) -> Iterator[tuple[bytes, int]]:
        """Yield the bytes of each step and its number of portfolios; the header comes first."""
        header = CSV_HEADER if self._format == "csv" and not begun.size else b""
        for batch in self._batches(begun.last):
            rows = encode_rows(batch, self._format, spreadsheet_safe=self._spreadsheet_safe)
            yield self._compress(header + rows), len(batch)
            header = b""
        if header:
            yield self._compress(header), 0

    def _compress(self, rows: bytes) -> bytes:
        return compress(rows) if self._compressed else rows

    def _batches(self, after: str | None) -> Iterator[list[Portfolio]]:
        batches = self._service.list_by_id(after)
        while True:
            with database_errors(TRANSFER_BUDGET_S):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


def open_stream(file: Path) -> IO[bytes] | None:
    """Open ``file`` for writing if it is a pipe, a device or a descriptor; return None if not."""
    descriptor = descriptor_of(file, STANDARD_OUTPUT)
    if descriptor is not None:
        return os.fdopen(os.dup(descriptor), "wb")
    if file.exists() and not stat.S_ISREG(file.stat().st_mode):
        return os.fdopen(os.open(file, os.O_WRONLY), "wb")
    return None
