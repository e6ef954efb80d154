"""``flask portfolios``: bring portfolios in from a file, take them out to one, find one."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import click
import orjson
from bson import ObjectId
from flask.cli import AppGroup

from portfolio.cli import from_database, table
from portfolio.components import components
from portfolio.errors import Invalid
from portfolio.portfolios.model import Draft, Portfolio, Search
from portfolio.portfolios.schemas import DraftSchema, load
from portfolio.portfolios.service import MAX_BULK

portfolios = AppGroup("portfolios", help="Import, export and find portfolios.")

_COLUMNS = list(Portfolio.__annotations__)
_draft = DraftSchema()


class Row(NamedTuple):
    """One portfolio of a file, as it stands there.

    Attributes:
        line: the number of its last line, from 1.
        values: its fields; None where the line could not be read.
        fault: why not.
    """

    line: int
    values: Any
    fault: str = ""


class Progress:
    """How far the import of a file has come, in a file beside it, so that it can go on from there.

    Args:
        file: what is imported.
    """

    def __init__(self, file: Path) -> None:
        self._note = file.with_name(f"{file.name}.progress")
        self.line = 0
        self.run = uuid.uuid4().hex
        if self._note.exists():
            noted = json.loads(self._note.read_text())
            self.line, self.run = int(noted["line"]), str(noted["run"])

    def reached(self, line: int) -> None:
        """Note that all up to ``line`` is dealt with."""
        self.line = line
        fresh = self._note.with_suffix(".new")
        fresh.write_text(json.dumps({"line": line, "run": self.run}))
        fresh.replace(self._note)

    def end(self) -> None:
        """Forget the note: the file is imported."""
        self._note.unlink(missing_ok=True)

    def identity(self, line: int) -> ObjectId:
        """Return the id for the portfolio of ``line``: the same, should it be tried again."""
        return ObjectId(hashlib.sha256(f"{self.run} {line}".encode()).digest()[:12])


_kind = click.option(
    "--format",
    "kind",
    type=click.Choice(["ndjson", "csv"]),
    help="What is in FILE; else its name tells: csv where it ends so, else ndjson.",
)


@portfolios.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_kind
@click.option(
    "--bad-lines",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="What to do at a line that holds no portfolio.",
)
def import_file(file: Path, kind: str | None, bad_lines: str) -> None:
    """Store the portfolios in FILE: one a line as JSON, or CSV with a line of names first.

    A portfolio that has a portfolioId keeps it, and is left alone where it is stored already. Where
    the import stops, for whatever reason, the same command goes on from there.
    """
    progress = Progress(file)
    if progress.line:
        click.echo(f"Going on after line {progress.line}")
    stored = known = skipped = 0
    with _bar(_count_lines(file), "Importing") as bar:
        bar.update(progress.line)
        rows = (row for row in _rows(file, _kind_of(file, kind)) if row.line > progress.line)
        while bulk := list(islice(rows, MAX_BULK)):
            drafts = []
            for row in bulk:
                try:
                    drafts.append(_to_draft(row, progress))
                except click.ClickException as fault:
                    skipped += 1
                    if bad_lines == "stop":
                        _store(drafts)
                        progress.reached(row.line - 1)
                        raise click.ClickException(
                            f"{fault.message}\nAll lines before it are imported. Correct it and "
                            "run the same command again, or add --bad-lines skip."
                        ) from fault
                    click.echo(f"\nSkipped: {fault.message}", err=True)
            new = _store(drafts)
            stored += new
            known += len(drafts) - new
            bar.update(bulk[-1].line - progress.line)
            progress.reached(bulk[-1].line)
    progress.end()
    click.echo(f"{stored} imported, {known} there already, {skipped} skipped")


@portfolios.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_kind
def export_file(file: Path, kind: str | None) -> None:
    """Write every portfolio to FILE, in the order of insertion.

    FILE appears when all is written: it never holds a part.
    """
    service = components().portfolios
    total = from_database(lambda: service.search(Search(limit=1))).total
    batches = from_database(service.list_all)
    part = file.with_name(f"{file.name}.part")
    written = 0
    with part.open("w", encoding="utf-8", newline="") as out, _bar(total, "Exporting") as bar:
        write = _writer(out, _kind_of(file, kind))
        while batch := from_database(partial(next, batches, [])):
            write(batch)
            written += len(batch)
            bar.update(len(batch))
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)
    click.echo(f"{written} written to {file}")


@portfolios.command("find")
@click.argument("name")
@click.option("--limit", default=20, type=click.IntRange(1, 1000), show_default=True)
def find(name: str, limit: int) -> None:
    """Show the portfolios whose name contains NAME, without regard to case; newest first."""
    search = Search(name_like=name, limit=limit)
    page = from_database(lambda: components().portfolios.search(search))
    if not page.portfolios:
        raise click.ClickException(f"No portfolio's name contains {name!r}.")
    table(_COLUMNS, ([each[column] for column in _COLUMNS] for each in page.portfolios))
    if page.has_next:
        click.echo(f"{limit} of {page.total}; --limit shows more")


def _to_draft(row: Row, progress: Progress) -> Draft:
    if row.fault:
        raise click.ClickException(f"line {row.line}: {row.fault}")
    try:
        draft: Draft = load(_draft, row.values, "body")
    except Invalid as error:
        faults = [": ".join([*map(str, fault["loc"][1:]), fault["msg"]]) for fault in error.faults]
        raise click.ClickException(f"line {row.line}: {'; '.join(faults)}") from None
    given = row.values.get("portfolioId")
    if given is None:
        return draft._replace(identity=progress.identity(row.line))
    if not ObjectId.is_valid(given):
        raise click.ClickException(
            f"line {row.line}: portfolioId: Input should be 24 hexadecimal digits"
        )
    return draft._replace(identity=ObjectId(given))


def _store(drafts: list[Draft]) -> int:
    return int(from_database(lambda: components().portfolios.create_missing(drafts)))


def _rows(file: Path, kind: str) -> Iterator[Row]:
    if kind == "csv":
        yield from _csv_rows(file)
        return
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield Row(number, orjson.loads(line))
                except orjson.JSONDecodeError as error:
                    yield Row(number, None, f"not JSON: {error}")


def _csv_rows(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines)
        if "name" not in (reader.fieldnames or ()):
            raise click.ClickException(
                f"{file}: the first line should name the columns, of {', '.join(_COLUMNS)}; name "
                "is missing."
            )
        for values in reader:
            given = {key: value for key, value in values.items() if key and value}
            yield Row(reader.line_num, given)


def _writer(out: IO[str], kind: str) -> Callable[[list[Portfolio]], None]:
    if kind == "csv":
        writer = csv.DictWriter(out, _COLUMNS)
        writer.writeheader()
        return writer.writerows

    def write(batch: list[Portfolio]) -> None:
        out.writelines(f"{orjson.dumps(each).decode()}\n" for each in batch)

    return write


def _kind_of(file: Path, kind: str | None) -> str:
    return kind or ("csv" if file.suffix.lower() == ".csv" else "ndjson")


def _count_lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


def _bar(length: int, label: str) -> Any:
    return click.progressbar(length=length, label=label, show_pos=True)
