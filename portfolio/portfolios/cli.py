"""``flask portfolios``: bring portfolios in from a file, take them out to one, find one."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
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
_HEADER = f"{','.join(_COLUMNS)}\r\n".encode()
# The id at the beginning of a row that an export has written.
_ID_IN = {
    "ndjson": re.compile(rb'\{"portfolioId":"([0-9a-f]{24})"'),
    "csv": re.compile(rb"([0-9a-f]{24}),"),
}
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
@click.option("--anew", is_flag=True, help="Begin anew, whatever is in FILE.part.")
def export_file(file: Path, kind: str | None, *, anew: bool) -> None:
    """Write every portfolio to FILE, in the order of their ids.

    FILE appears when all is written: until then, what there is stands in FILE.part. Where the
    export stops, for whatever reason, the same command goes on from there.
    """
    service = components().portfolios
    total = from_database(lambda: service.search(Search(limit=1))).total
    kind = _kind_of(file, kind)
    part = file.with_name(f"{file.name}.part")
    with part.open("a", encoding="utf-8", newline="") as out:
        _claim(out)
        if anew:
            out.truncate(0)
        written, last = _keep_whole(part, kind)
        if written:
            click.echo(f"Going on after {written} portfolios, behind {last}; --anew begins anew")
        batches = service.list_by_id(last)
        write = _writer(out, kind)
        with _bar(total, "Exporting") as bar:
            bar.update(written)
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


def _claim(out: IO[str]) -> None:
    # Held until the file is closed, if only by the end of the process, however it ends.
    try:
        fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise click.ClickException(f"Another export is writing {out.name}") from None


def _keep_whole(part: Path, kind: str) -> tuple[int, ObjectId | None]:
    """Cut a torn last row off ``part``; return how many portfolios are left, and the last one's id.

    Raises:
        ClickException: it holds something else than the beginning of an export of this kind.
    """
    strange = click.ClickException(
        f"{part} holds something else than the beginning of an export as {kind}. Look what it is; "
        "--anew overwrites it."
    )
    count, end, last = 0, 0, b""
    with part.open("rb+") as lines:
        if kind == "csv":
            header = lines.readline()
            if not _HEADER.startswith(header):
                raise strange
            end = len(header) if header == _HEADER else 0
        for row in _whole_rows(lines, kind):
            found = _ID_IN[kind].match(row)
            if found is None or found[1] <= last:
                raise strange
            count, end, last = count + 1, end + len(row), found[1]
        lines.truncate(end)
    return count, ObjectId(last.decode()) if last else None


def _whole_rows(lines: Iterable[bytes], kind: str) -> Iterator[bytes]:
    row, quotes = b"", 0
    for line in lines:
        row += line
        quotes += line.count(b'"')
        # In CSV a row goes on while a quote is open; a quote within quotes is doubled.
        if line.endswith(b"\n") and (kind == "ndjson" or quotes % 2 == 0):
            yield row
            row = b""


def _writer(out: IO[str], kind: str) -> Callable[[list[Portfolio]], None]:
    if kind == "csv":
        writer = csv.DictWriter(out, _COLUMNS)
        if not os.fstat(out.fileno()).st_size:
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
