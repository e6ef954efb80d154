"""Storing the portfolios of a file: each once, however often the import is stopped and repeated.

Portfolios are stored a hundred at a time; then a note beside the file says how far the import has
come. The note only saves time, and tells a file from another one of the same name. The ids of the
rows keep them from being stored twice, see ``portfolio.cli.transfer.identity``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from bson import ObjectId

from portfolio.api.schemas import PortfolioImportSchema, load
from portfolio.cli.helpers import from_database
from portfolio.cli.transfer.checkpoint import Checkpoint
from portfolio.cli.transfer.files import TransferError
from portfolio.cli.transfer.formats import Row
from portfolio.cli.transfer.identity import RowIdentities
from portfolio.cli.transfer.source import START, Lines, Position
from portfolio.errors import UnprocessableEntity
from portfolio.models import PortfolioCreate
from portfolio.rules import MAX_BULK
from portfolio.service import PortfolioService
from portfolio.storage.guard import budget

# By default, MongoDB keeps the locks of a killed client for up to a minute.
DATABASE_BUDGET_S = 75.0
_schema = PortfolioImportSchema()


class BadRow(Exception):
    """A row is not a portfolio; the message gives the reason."""


class Entry(NamedTuple):
    """A portfolio to store, its line, and whether its id is in the file."""

    line: int
    new: PortfolioCreate
    own_id: bool


@dataclass
class Counts:
    """The numbers of rows.

    Attributes:
        stored: stored by this import.
        known: stored before, and left alone.
        derived: those of ``known`` whose id is not in the file.
        skipped: bad rows.
    """

    stored: int = 0
    known: int = 0
    derived: int = 0
    skipped: int = 0


class Importer:
    """Imports one file.

    Args:
        service: stores portfolios.
        lines: the lines of the file, for the positions of its rows.
        rows: the rows of the file.
        checkpoint: how far the import has come.
        report: called with the reason for each bad row; None ends the import at the first one.
    """

    def __init__(
        self,
        service: PortfolioService,
        lines: Lines,
        rows: Iterator[Row],
        checkpoint: Checkpoint,
        report: Callable[[str], None] | None,
    ) -> None:
        self.counts = Counts()
        self._service = service
        self._lines = lines
        self._rows = rows
        self._checkpoint = checkpoint
        self._report = report
        self._identities = RowIdentities(checkpoint.reading.label)
        self._resumes = checkpoint.position != START
        self._new_line = 0

    def run(self, advanced: Callable[[], None]) -> Counts:
        """Store what is not stored yet.

        Args:
            advanced: called after each bulk.

        Raises:
            TransferError: a row is bad, or the file is not the one that was begun.
        """
        before = self._pass_done_rows()
        pending: list[Entry] = []
        for row in self._rows:
            try:
                pending.append(self._to_entry(row))
            except BadRow as fault:
                if self._report is None:
                    self._store(pending, before)
                    raise TransferError(
                        f"{fault}\nAll lines before it are imported. Correct it and run the same "
                        "command again, or add --bad-lines skip."
                    ) from None
                self._report(str(fault))
                self.counts.skipped += 1
            before = self._lines.position()
            if len(pending) == MAX_BULK:
                self._store(pending, before)
                pending = []
                advanced()
        self._store(pending, before)
        return self.counts

    def _pass_done_rows(self) -> Position:
        """Read the rows that the note says are done; return the position behind them."""
        done = self._checkpoint.position
        here = START
        while here != done:
            row = next(self._rows, None)
            here = self._lines.position()
            if row is None or here.line > done.line or (here.line == done.line and here != done):
                raise self._checkpoint.mismatch(
                    f"its first {done.line} lines are not the ones that were imported"
                )
            try:
                self._to_entry(row)  # for the ids of equal rows further on
            except BadRow:
                continue
        return here

    def _to_entry(self, row: Row) -> Entry:
        if row.fault:
            raise BadRow(f"line {row.line}: {row.fault}")
        try:
            new: PortfolioCreate = load(_schema, row.values, "body")
        except UnprocessableEntity as error:
            faults = [": ".join([*map(str, each["loc"][1:]), each["msg"]]) for each in error.errors]
            raise BadRow(f"line {row.line}: {'; '.join(faults)}") from None
        given = row.values.get("portfolioId")
        if given is None:
            id = str(self._identities.next(new))
        elif ObjectId.is_valid(given):
            id = str(ObjectId(given))
        else:
            raise BadRow(f"line {row.line}: portfolioId: Input should be 24 hexadecimal digits")
        return Entry(row.line, new._replace(id=id), own_id=given is not None)

    def _store(self, entries: list[Entry], end: Position) -> None:
        if entries:
            ids = [entry.new.id for entry in entries if entry.new.id]
            known = self._ask(lambda: self._service.find_stored_ids(ids))
            self._check_order(entries, known)
            missing: dict[str | None, PortfolioCreate] = {}
            for entry in entries:
                if entry.new.id not in known:
                    # Of two rows with one id, the first is stored, as in two bulks.
                    missing.setdefault(entry.new.id, entry.new)
            if missing:
                self._ask(lambda: self._service.store_missing(list(missing.values())))
            self.counts.stored += len(missing)
            self.counts.known += len(entries) - len(missing)
        if end != self._checkpoint.position:
            self._checkpoint.reach(end)
        self._resumes = False

    def _check_order(self, entries: list[Entry], known: set[str]) -> None:
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
            if self._new_line and not self._checkpoint.restarted:
                raise TransferError(
                    f"Line {entry.line} was imported before, but line {self._new_line} was not: "
                    "the file has changed since, or another one was imported under the label "
                    f"{self._checkpoint.reading.label!r}, or portfolios were deleted, or another "
                    "import is running. --restart stores what is missing and leaves alone what is "
                    "stored; --label TEXT stores all of the file as new portfolios."
                )
            self.counts.derived += 1

    @staticmethod
    def _ask(call: Callable[[], Any]) -> Any:
        with budget(DATABASE_BUDGET_S):
            return from_database(call)
