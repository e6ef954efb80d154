"""Storing the portfolios of a file: each once, however often the import is stopped and repeated.

The id of a row that has none is made from the label of the file, the content of the row, and the
number of equal rows before it. So the same rows get the same ids in every import, and an import
leaves alone what is stored. It keeps no note of its progress.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import click
import orjson
from bson import ObjectId

from portfolio.api.schemas import PortfolioImportSchema, load
from portfolio.cli.helpers import TRANSFER_BUDGET_S, database_errors, progress_bar
from portfolio.cli.transfer.files import LineError, Lines, TransferError
from portfolio.cli.transfer.formats import read_rows
from portfolio.errors import UnprocessableEntity
from portfolio.models import PortfolioCreate
from portfolio.rules import MAX_BULK
from portfolio.service import PortfolioService

_schema = PortfolioImportSchema()


class RowIdentities:
    """Gives the rows of one file their ids; call ``next`` for every row without one, in order.

    It keeps a digest of 8 bytes of each distinct row. ``label`` tells the rows of this file from
    equal rows of others.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._counts: Counter[int] = Counter()

    def next(self, row: PortfolioCreate) -> ObjectId:
        """Return the id of the next row of the file."""
        created = row.date_created.isoformat() if row.date_created else None
        content = orjson.dumps([self._label, row.name, created, row.version])
        key = int.from_bytes(hashlib.sha256(content).digest()[:8])
        counted = b"%b %d" % (content, self._counts[key])
        self._counts[key] += 1
        return ObjectId(hashlib.sha256(counted).digest()[:12])


class _Entry(NamedTuple):
    """A portfolio to store, its id, and whether the file gives the id."""

    id: str
    new: PortfolioCreate
    own_id: bool


@dataclass
class Importer:
    """Imports the rows of ``lines``, which are in ``format``.

    Attributes:
        label: tells the rows of this file from equal rows of others.
        spreadsheet_safe: undo what an export with this option has done.
        skip: report bad rows and go on; else the first one ends the import.
        stored: how many rows were stored.
        known: how many were stored before, and left alone.
        derived: how many of ``known`` have no id in the file.
        skipped: how many were bad.
    """

    service: PortfolioService
    lines: Lines
    format: str
    label: str
    spreadsheet_safe: bool
    skip: bool
    stored: int = 0
    known: int = 0
    derived: int = 0
    skipped: int = 0

    def run(self) -> None:
        """Store the rows that are not stored yet, a bulk at a time.

        Raises:
            TransferError: a row is bad; all rows before it are stored.
        """
        identities = RowIdentities(self.label)
        rows = read_rows(self.lines, self.format, spreadsheet_safe=self.spreadsheet_safe)
        bulk: list[_Entry] = []
        with progress_bar(self.lines.size, "Importing") as bar:
            for row in rows:
                try:
                    bulk.append(_to_entry(row, identities))
                except LineError as error:
                    self._report(f"line {self.lines.line}: {error}", bulk)
                if len(bulk) == MAX_BULK:
                    self._store(bulk)
                    bulk.clear()
                    if self.lines.size is not None:
                        bar.update(self.lines.raw.tell() - bar.pos)
            self._store(bulk)

    def _report(self, fault: str, bulk: list[_Entry]) -> None:
        """Skip a bad row, or store the ``bulk`` before it and end the import."""
        if not self.skip:
            self._store(bulk)
            raise TransferError(
                f"{fault}\nAll lines before it are imported. Correct it and run the same command "
                "again, or add --bad-lines skip."
            )
        click.echo(f"Skipped: {fault}", err=True)
        self.skipped += 1

    def _store(self, bulk: list[_Entry]) -> None:
        """Store those of ``bulk`` that are missing."""
        by_id: dict[str, PortfolioCreate] = {}
        for entry in bulk:
            # Of two rows with one id, the first is stored, as in two bulks.
            by_id.setdefault(entry.id, entry.new)
        with database_errors(TRANSFER_BUDGET_S):
            known = self.service.find_stored_ids(list(by_id))
            missing = [new._replace(id=id) for id, new in by_id.items() if id not in known]
            if missing:
                self.service.store_missing(missing)
        self.stored += len(missing)
        self.known += len(bulk) - len(missing)
        self.derived += sum(entry.id in known and not entry.own_id for entry in bulk)


def _to_entry(row: dict[str, Any] | LineError, identities: RowIdentities) -> _Entry:
    """Return the portfolio of a row.

    Raises:
        LineError: it is bad.
    """
    if isinstance(row, LineError):
        raise row
    try:
        new: PortfolioCreate = load(_schema, row, "body")
    except UnprocessableEntity as error:
        faults = [[*map(str, each["loc"][1:]), each["msg"]] for each in error.errors]
        raise LineError("; ".join(map(": ".join, faults))) from None
    given = row.get("portfolioId")
    if given is not None and not ObjectId.is_valid(given):
        raise LineError("portfolioId: Input should be 24 hexadecimal digits")
    id = str(identities.next(new) if given is None else ObjectId(given))
    return _Entry(id, new, own_id=given is not None)
