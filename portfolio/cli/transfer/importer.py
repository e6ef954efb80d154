"""Storing the portfolios of a file: each once, however often the import is stopped and repeated.

Portfolios are stored a hundred at a time; then a note beside the file says how far the import has
come. The note only saves time, and tells a file from another one of the same name.

The ids of the rows keep them from being stored twice. The id of a row that has none is made from
the label of the file, the content of the row, and the number of equal rows before it. It depends
neither on the row's line nor on any note.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import click
import orjson
from bson import ObjectId

from portfolio.api.schemas import PortfolioImportSchema, load
from portfolio.cli.helpers import TRANSFER_BUDGET_S, database_errors, progress_bar
from portfolio.cli.transfer.files import RESTART, LineError, Lines, TransferError, file_errors
from portfolio.cli.transfer.formats import read_rows
from portfolio.cli.transfer.notes import Note
from portfolio.errors import UnprocessableEntity
from portfolio.models import PortfolioCreate
from portfolio.rules import MAX_BULK
from portfolio.service import PortfolioService

_schema = PortfolioImportSchema()


class _Position(NamedTuple):
    """How far a file was read: the number of lines, and a digest of the rows in them."""

    line: int
    sha256: str


_START = _Position(0, "")


class _Entry(NamedTuple):
    """A portfolio to store, its id and line, and whether the id is in the file."""

    line: int
    id: str
    new: PortfolioCreate
    own_id: bool


class ImportOptions(NamedTuple):
    """How a file is read; read in another way, it may have other rows."""

    label: str
    format: str
    spreadsheet_safe: bool


class RowIdentities:
    """Gives the rows of one file their ids; call ``next`` for every row, in order.

    It keeps a digest of 8 bytes of each distinct row. ``label`` tells the rows of this file from
    equal rows of others.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._counts: dict[int, int] = {}

    def next(self, row: PortfolioCreate) -> ObjectId:
        """Return the id of the next row of the file."""
        created = row.date_created.isoformat() if row.date_created else None
        content = orjson.dumps([self._label, row.name, created, row.version])
        key = int.from_bytes(hashlib.sha256(content).digest()[:8])
        count = self._counts.get(key, 0)
        self._counts[key] = count + 1
        return ObjectId(hashlib.sha256(b"%b %d" % (content, count)).digest()[:12])


@dataclass
class Importer:
    """Imports the file whose text is ``lines``.

    Its progress is kept in ``note``, if there is one. With ``skip``, bad rows are reported, and the
    first one does not end the import.

    Attributes:
        stored: how many rows were stored by this import.
        known: how many were stored before, and left alone.
        derived: how many of ``known`` have no id in the file.
        skipped: how many were bad.
    """

    service: PortfolioService
    lines: Lines
    options: ImportOptions
    note: Note | None
    skip: bool
    stored: int = 0
    known: int = 0
    derived: int = 0
    skipped: int = 0
    # Rows behind this position may or may not be stored.
    _done: _Position = _START
    _resumes: bool = False
    # Whether rows may be stored in any order, as after changes to the file.
    _restarted: bool = False
    _new_line: int = 0

    def __post_init__(self) -> None:
        self._entries = self._read_entries()
        self._digest = hashlib.sha256()

    def run(self, *, restart: bool) -> None:
        """Store what is not stored yet; ``restart`` begins at the first line, whatever is noted.

        Raises:
            TransferError: a row is bad, or the file is not the one that was begun.
        """
        self._resume(restart=restart)
        try:
            self._store_rows()
        except TransferError:
            if self.note and self._done == _START:
                self.note.remove()  # nothing is imported
            raise
        if self.note:
            self.note.remove()

    def _resume(self, *, restart: bool) -> None:
        """Go on from the noted position, and write the note before anything is stored."""
        noted = self.note.read() if self.note and not restart else None
        self._restarted = restart or bool(noted and noted.pop("restarted"))
        self._reach(_Position(**noted) if noted else self._done)
        if self._done == _START:
            return
        self._resumes = True
        click.echo(f"Going on after line {self._done.line}")
        # Read them again: the ids of later rows depend on equal ones here.
        for entry in self._entries:
            self.known += isinstance(entry, _Entry)
            here = self._position()
            if here == self._done:
                return
            if here.line > self._done.line:
                break
        raise TransferError(
            f"{self.lines.raw.name} has changed: its first {self._done.line} lines are not the "
            f"ones that were imported. {RESTART}"
        )

    def _store_rows(self) -> None:
        before = self._done
        pending: list[_Entry] = []
        with progress_bar(self.lines.size, "Importing") as bar:
            for entry in self._entries:
                if isinstance(entry, _Entry):
                    pending.append(entry)
                else:
                    fault = f"line {self.lines.line}: {entry}"
                    if not self.skip:
                        self._store(pending, before)
                        raise TransferError(
                            f"{fault}\nAll lines before it are imported. Correct it and run the "
                            "same command again, or add --bad-lines skip."
                        )
                    click.echo(f"Skipped: {fault}", err=True)
                    self.skipped += 1
                before = self._position()
                if len(pending) == MAX_BULK:
                    self._store(pending, before)
                    pending = []
                    if self.lines.size is not None:
                        bar.update(self.lines.raw.tell() - bar.pos)
        self._store(pending, before)

    def _read_entries(self) -> Iterator[_Entry | LineError]:
        """Yield the portfolio of each row; the reason in the place of one that is bad."""
        label, format, spreadsheet_safe = self.options
        identities = RowIdentities(label)
        for row in read_rows(self.lines, format, spreadsheet_safe=spreadsheet_safe):
            if isinstance(row, LineError):
                yield row
                continue
            try:
                new: PortfolioCreate = load(_schema, row, "body")
            except UnprocessableEntity as error:
                faults = [[*map(str, each["loc"][1:]), each["msg"]] for each in error.errors]
                yield LineError("; ".join(map(": ".join, faults)))
                continue
            given = row.get("portfolioId")
            if given is None:
                id = identities.next(new)
            elif ObjectId.is_valid(given):
                id = ObjectId(given)
            else:
                yield LineError("portfolioId: Input should be 24 hexadecimal digits")
                continue
            new = new._replace(id=str(id))
            self._digest.update(repr(new).encode())
            yield _Entry(self.lines.line, str(id), new, own_id=given is not None)

    def _position(self) -> _Position:
        return _Position(self.lines.line, self._digest.hexdigest())

    def _store(self, entries: list[_Entry], end: _Position) -> None:
        """Store those of ``entries`` that are missing; all before ``end`` is done then."""
        by_id: dict[str, PortfolioCreate] = {}
        for entry in entries:
            # Of two rows with one id, the first is stored, as in two bulks.
            by_id.setdefault(entry.id, entry.new)
        with database_errors(TRANSFER_BUDGET_S):
            known = self.service.find_stored_ids(list(by_id))
            self._check_order(entries, known)
            missing = [new for id, new in by_id.items() if id not in known]
            if missing:
                self.service.store_missing(missing)
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
            if entry.id not in known:
                self._new_line = self._new_line or (0 if self._resumes else entry.line)
                continue
            if self._new_line and not self._restarted:
                raise TransferError(
                    f"Line {entry.line} was imported before, but line {self._new_line} was not: "
                    "the file has changed since, or another one was imported under the label "
                    f"{self.options.label!r}, or portfolios were deleted, or another import is "
                    "running. --restart stores what is missing and leaves alone what is "
                    "stored; --label TEXT stores all of the file as new portfolios."
                )
            self.derived += 1

    def _reach(self, position: _Position) -> None:
        """Note that all before ``position`` is done."""
        if self.note:
            consequence = (
                f"All up to line {self._done.line} is imported, perhaps more; the same command "
                "goes on from there."
                if self._done != _START
                else "Nothing is imported. --no-resume imports without a note of progress."
            )
            progress = {"restarted": self._restarted, **position._asdict()}
            with file_errors(self.note.path, consequence):
                self.note.write(progress)
        self._done = position
