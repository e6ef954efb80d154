"""Storing the portfolios of a file: each once, however often the import is stopped and repeated.

Portfolios are stored a hundred at a time; then a note beside the file says how far the import has
come. The note only saves time, and tells a file from another one of the same name. The ids of the
rows keep them from being stored twice, see ``portfolio.cli.transfer.identity``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

import click
from bson import ObjectId

from portfolio.api.schemas import PortfolioImportSchema, load
from portfolio.cli.helpers import TRANSFER_BUDGET_S, database_errors, progress_bar
from portfolio.cli.transfer.files import RESTART, Note, TransferError
from portfolio.cli.transfer.formats import Row, read_rows
from portfolio.cli.transfer.identity import RowIdentities
from portfolio.cli.transfer.source import START, Position, Source
from portfolio.errors import UnprocessableEntity
from portfolio.models import PortfolioCreate
from portfolio.rules import MAX_BULK
from portfolio.service import PortfolioService

_schema = PortfolioImportSchema()


class _BadRow(Exception):
    """A row is not a portfolio; the message gives the reason."""


class _Entry(NamedTuple):
    """A portfolio to store, its line, and whether its id is in the file."""

    line: int
    new: PortfolioCreate
    own_id: bool


class ImportOptions(NamedTuple):
    """How a file is read; read in another way, it may have other rows."""

    label: str
    format: str
    spreadsheet_safe: bool


class Importer:
    """Imports one file.

    Args:
        service: stores portfolios.
        source: the opened file.
        options: how it is read.
        note: where the progress is kept; None for a stream.
        skip: report bad rows and go on, instead of ending at the first one.

    Attributes:
        stored: how many rows were stored by this import.
        known: how many were stored before, and left alone.
        derived: how many of ``known`` have no id in the file.
        skipped: how many were bad.
    """

    def __init__(
        self,
        service: PortfolioService,
        source: Source,
        options: ImportOptions,
        note: Note | None,
        *,
        skip: bool,
    ) -> None:
        self.stored = self.known = self.derived = self.skipped = 0
        self._service = service
        self._source = source
        self._lines = source.lines
        self._rows = read_rows(
            source.lines, options.format, spreadsheet_safe=options.spreadsheet_safe
        )
        self._label = options.label
        self._identities = RowIdentities(options.label)
        self._note = note
        self._skip = skip
        # Rows behind this position may or may not be stored.
        self._done = START
        self._resumes = False
        # Whether rows may be stored in any order, as after changes to the file.
        self._restarted = False
        self._new_line = 0

    def run(self, *, restart: bool) -> None:
        """Store what is not stored yet; ``restart`` begins at the first line, whatever is noted.

        Raises:
            TransferError: a row is bad, or the file is not the one that was begun.
        """
        self._resume(restart=restart)
        try:
            self._store_rows()
        except TransferError:
            if self._note and self._done == START:
                self._note.remove()  # nothing is imported
            raise
        if self._note:
            self._note.remove()

    def _resume(self, *, restart: bool) -> None:
        """Go on from the noted position, and write the note before anything is stored."""
        noted = self._note.read() if self._note and not restart else None
        self._restarted = restart or bool(noted and noted["restarted"])
        self._reach(Position(**noted["done"]) if noted else START, durable=True)
        if self._done == START:
            return
        self._resumes = True
        click.echo(f"Going on after line {self._done.line}")
        here = START
        while here != self._done:
            row = next(self._rows, None)
            here = self._lines.position()
            if row is None or here.line > self._done.line:
                raise TransferError(
                    f"{self._source.file} has changed: its first {self._done.line} lines are not "
                    f"the ones that were imported. {RESTART}"
                )
            with suppress(_BadRow):
                self._to_entry(row)  # for the ids of equal rows further on

    def _store_rows(self) -> None:
        before = self._done
        pending: list[_Entry] = []
        hidden = self._source.is_stream
        with progress_bar(self._source.size, "Importing", hidden=hidden) as bar:
            for row in self._rows:
                try:
                    pending.append(self._to_entry(row))
                except _BadRow as fault:
                    if not self._skip:
                        self._store(pending, before)
                        raise TransferError(
                            f"{fault}\nAll lines before it are imported. Correct it and run the "
                            "same command again, or add --bad-lines skip."
                        ) from None
                    click.echo(f"Skipped: {fault}", err=True)
                    self.skipped += 1
                before = self._lines.position()
                if len(pending) == MAX_BULK:
                    self._store(pending, before)
                    pending = []
                    if not hidden:
                        bar.update(self._source.raw.tell() - bar.pos)
        self._store(pending, before)

    def _to_entry(self, row: Row) -> _Entry:
        if row.fault:
            raise _BadRow(f"line {row.line}: {row.fault}")
        try:
            new: PortfolioCreate = load(_schema, row.values, "body")
        except UnprocessableEntity as error:
            faults = [": ".join([*map(str, each["loc"][1:]), each["msg"]]) for each in error.errors]
            raise _BadRow(f"line {row.line}: {'; '.join(faults)}") from None
        given = row.values.get("portfolioId")
        if given is None:
            id = self._identities.next(new)
        elif ObjectId.is_valid(given):
            id = ObjectId(given)
        else:
            raise _BadRow(f"line {row.line}: portfolioId: Input should be 24 hexadecimal digits")
        return _Entry(row.line, new._replace(id=str(id)), own_id=given is not None)

    def _store(self, entries: list[_Entry], end: Position) -> None:
        """Store those of ``entries`` that are missing; all before ``end`` is done then."""
        if entries:
            by_id: dict[str, PortfolioCreate] = {}
            for entry in entries:
                # Of two rows with one id, the first is stored, as in two bulks.
                by_id.setdefault(str(entry.new.id), entry.new)
            with database_errors(TRANSFER_BUDGET_S):
                known = self._service.find_stored_ids(list(by_id))
            self._check_order(entries, known)
            missing = [new for id, new in by_id.items() if id not in known]
            if missing:
                with database_errors(TRANSFER_BUDGET_S):
                    self._service.store_missing(missing)
            self.stored += len(missing)
            self.known += len(entries) - len(missing)
        if end != self._done:
            self._reach(end)
        self._resumes = False

    def _check_order(self, entries: list[_Entry], known: set[str]) -> None:
        """Count the rows that were imported before, and refuse them behind rows that were not.

        A stopped import has stored the beginning of its file. So has the import of a file that has
        grown since. The rows just behind the noted position may be stored or not.
        """
        for entry in entries:
            if entry.own_id:
                continue
            if entry.new.id not in known:
                self._new_line = self._new_line or (0 if self._resumes else entry.line)
                continue
            if self._new_line and not self._restarted:
                raise TransferError(
                    f"Line {entry.line} was imported before, but line {self._new_line} was not: "
                    "the file has changed since, or another one was imported under the label "
                    f"{self._label!r}, or portfolios were deleted, or another "
                    "import is running. --restart stores what is missing and leaves alone what is "
                    "stored; --label TEXT stores all of the file as new portfolios."
                )
            self.derived += 1

    def _reach(self, position: Position, *, durable: bool = False) -> None:
        """Note that all before ``position`` is done; ``durable`` waits for the disk."""
        if self._note:
            progress = {"restarted": self._restarted, "done": position._asdict()}
            try:
                self._note.write(progress, durable=durable)
            except OSError as error:
                raise TransferError(
                    f"{self._note.path}: the note of progress can't be written: {error.strerror}. "
                    + (
                        "Nothing is imported. --no-resume imports without a note."
                        if self._done == START
                        else f"All up to line {self._done.line} is imported, perhaps more; the "
                        "same command goes on from there."
                    )
                ) from error
        self._done = position
