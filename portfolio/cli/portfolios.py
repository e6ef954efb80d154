"""``flask portfolios``: import portfolios from a file, export them to one, find one."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click
from bson import ObjectId
from flask.cli import AppGroup

from portfolio.api.responses import to_json
from portfolio.api.services import services
from portfolio.cli.helpers import from_database, print_table
from portfolio.cli.transfer.checkpoint import Reading, load_checkpoint
from portfolio.cli.transfer.exporter import Exporter, open_stream
from portfolio.cli.transfer.files import (
    TransferError,
    file_errors,
    format_of,
    is_compressed,
    label_of,
)
from portfolio.cli.transfer.formats import COLUMNS, FORMATS, read_rows
from portfolio.cli.transfer.importer import Importer
from portfolio.cli.transfer.source import (
    DEFAULT_ENCODING,
    START,
    Source,
    check_encoding,
    open_source,
)
from portfolio.cli.transfer.target import describe_target, ensure_collection
from portfolio.models import Search

portfolios = AppGroup("portfolios", help="Import, export and find portfolios.")


class _Encoding(click.ParamType):  # type: ignore[type-arg]  # generic in its stubs alone
    """The name of a text encoding."""

    name = "encoding"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        try:
            return check_encoding(value)
        except (LookupError, ValueError):
            self.fail(f"{value!r} is no encoding of text", param, ctx)


_format = click.option(
    "--format",
    "given",
    type=click.Choice(FORMATS),
    help="Format of FILE; by default csv if its name ends in .csv or .csv.gz, else ndjson.",
)
_file = click.Path(dir_okay=False, allow_dash=True, path_type=Path)


@portfolios.command("import")
@click.argument("file", type=click.Path(True, dir_okay=False, allow_dash=True, path_type=Path))
@_format
@click.option(
    "--encoding",
    type=_Encoding(),
    default=DEFAULT_ENCODING,
    show_default=True,
    help="Encoding of FILE, such as cp1252 or utf-16.",
)
@click.option(
    "--bad-lines",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="What to do at a bad line.",
)
@click.option(
    "--restart",
    is_flag=True,
    help="Begin at the first line, even if the note of progress is of another file or database. "
    "What is stored already is left alone.",
)
@click.option(
    "--label",
    help="Distinguishes the rows of FILE from equal rows of other files; by default its name. With "
    "another label the same file is stored again.",
)
@click.option("--no-resume", is_flag=True, help="Write no note of progress beside FILE.")
@click.option("--spreadsheet-safe", is_flag=True, help="Undo export --spreadsheet-safe.")
def import_file(
    file: Path,
    given: str | None,
    encoding: str,
    bad_lines: str,
    label: str | None,
    *,
    restart: bool,
    no_resume: bool,
    spreadsheet_safe: bool,
) -> None:
    """Import portfolios from FILE: JSON, one portfolio a line, or CSV with a header line.

    FILE is decompressed if its name ends in .gz; - is the standard input. A portfolio with a
    portfolioId keeps it, and is left alone if it is stored already. Any other gets an id that
    depends on its row, so that importing FILE again stores nothing twice. If the import stops, the
    same command resumes it.
    """
    reading = Reading(
        label=label_of(file, label),
        format=format_of(file, given),
        spreadsheet_safe=spreadsheet_safe,
    )
    with file_errors(file), open_source(file, encoding) as source:
        note = file.with_name(f"{file.name}.progress")
        _import(
            source,
            reading,
            None if source.is_stream or no_resume else note,
            skip=bad_lines == "skip",
            restart=restart,
        )


def _import(
    source: Source, reading: Reading, note: Path | None, *, skip: bool, restart: bool
) -> None:
    s = services()
    from_database(lambda: ensure_collection(s))
    target = from_database(lambda: describe_target(s))
    checkpoint = load_checkpoint(note, reading, target, restart=restart)
    checkpoint.reach(checkpoint.position, durable=True)
    if checkpoint.position.line:
        click.echo(f"Going on after line {checkpoint.position.line}")
    rows = read_rows(
        source.lines, reading.format, _UnknownNames(), spreadsheet_safe=reading.spreadsheet_safe
    )
    importer = Importer(
        s.portfolios,
        source.lines,
        rows,
        checkpoint,
        (lambda fault: click.echo(f"Skipped: {fault}", err=True)) if skip else None,
    )
    with _bar(source.size, "Importing", hidden=source.is_stream) as bar:
        try:
            counts = importer.run(lambda: bar.update(source.read() - bar.pos))
        except TransferError:
            if checkpoint.position == START:
                checkpoint.end()
            raise
    checkpoint.end()
    if counts.derived:
        click.echo(
            f"{counts.derived} rows without a portfolioId were imported before under the label "
            f"{reading.label!r}: they are left alone. --label TEXT stores them once more.",
            err=True,
        )
    summary = f"{counts.stored} imported, {counts.known} there already, {counts.skipped} skipped"
    if counts.skipped and not counts.stored + counts.known:
        raise TransferError(f"No line of {source.file} holds a portfolio: {summary}")
    click.echo(summary)


@portfolios.command("export")
@click.argument("file", type=_file)
@_format
@click.option(
    "--restart", "--anew", is_flag=True, help="Begin anew instead of resuming an earlier export."
)
@click.option(
    "--spreadsheet-safe",
    is_flag=True,
    help="In CSV, put an apostrophe before cells that a spreadsheet would run as formulas.",
)
def export_file(file: Path, given: str | None, *, restart: bool, spreadsheet_safe: bool) -> None:
    """Export every portfolio to FILE, in the order of their ids.

    FILE is compressed if its name ends in .gz; - is the standard output. Until the export is
    complete, the rows are in FILE.part. If the export stops, the same command resumes it. A pipe
    or a device is written directly.
    """
    format = format_of(file, given)
    if spreadsheet_safe and format != "csv":
        raise click.UsageError("--spreadsheet-safe is for CSV alone.")
    s = services()
    target = from_database(lambda: describe_target(s))
    exporter = Exporter(s.portfolios, target, format, spreadsheet_safe=spreadsheet_safe)
    with file_errors(file):
        stream = open_stream(file)
        if stream is not None:
            with stream:
                exporter.write_stream(stream, compressed=is_compressed(file))
            return
        total = from_database(lambda: s.portfolios.search(Search(limit=1))).total
        with _bar(total, "Exporting", hidden=False) as bar:
            written = exporter.write_file(
                file, restart=restart, resumed=_tell_resumed, advanced=bar.update
            )
    click.echo(f"{written} written to {click.format_filename(file)}")


@portfolios.command("find")
@click.argument("name")
@click.option("--limit", default=20, type=click.IntRange(1, 1000), show_default=True)
def find(name: str, limit: int) -> None:
    """List the portfolios whose name contains NAME, ignoring case, newest first."""
    search = Search(name_like=name, limit=limit)
    page = from_database(lambda: services().portfolios.search(search))
    if not page.portfolios:
        raise click.ClickException(f"No portfolio's name contains {name!r}.")
    print_table(COLUMNS, (list(to_json(each).values()) for each in page.portfolios))
    if page.has_next:
        click.echo(f"{limit} of {page.total}; --limit shows more")


class _UnknownNames:
    """Reports each unknown column or field once, with its first line."""

    def __init__(self) -> None:
        self._times: Counter[str] = Counter()

    def __call__(self, name: str, line: int) -> None:
        if not self._times[name]:
            click.echo(
                f"Left out: {name!r} (line {line}) is none of {', '.join(COLUMNS)}", err=True
            )
        self._times[name] += 1


def _tell_resumed(count: int, last: ObjectId) -> None:
    click.echo(f"Going on after {count} portfolios, behind {last}; --restart begins anew")


def _bar(length: int, label: str, *, hidden: bool) -> Any:
    hidden = hidden or not sys.stderr.isatty()
    return click.progressbar(length=length, label=label, hidden=hidden, file=sys.stderr)
