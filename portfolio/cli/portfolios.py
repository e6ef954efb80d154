"""``flask portfolios``: import portfolios from a file, export them to one, find one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click
from flask.cli import AppGroup

from portfolio.api.responses import FIELDS, to_json
from portfolio.api.services import services
from portfolio.cli.helpers import database_errors, print_table
from portfolio.cli.transfer import files
from portfolio.cli.transfer.exporter import Exporter
from portfolio.cli.transfer.formats import FORMATS
from portfolio.cli.transfer.importer import Importer
from portfolio.models import Search
from portfolio.redaction import redact_uri
from portfolio.storage.connection import COLLECTION
from portfolio.storage.database import Database

portfolios = AppGroup("portfolios", help="Import, export and find portfolios.")


def _encoding(name: str) -> str:
    """Check that ``name`` is an encoding in which lines end as in ASCII."""
    try:
        if b"\n".decode(name) == "\n":
            return name
    except (LookupError, ValueError):  # not an encoding of text, or of more bytes a character
        pass
    raise click.BadParameter(f"{name!r} can't be read; convert FILE to UTF-8, as by iconv")


_format = click.option(
    "--format",
    "given",
    type=click.Choice(FORMATS),
    help="Format of FILE; by default csv if its name ends in .csv or .csv.gz, else ndjson.",
)


@portfolios.command("import")
@click.argument("file", type=click.Path(True, dir_okay=False, allow_dash=True, path_type=Path))
@_format
@click.option(
    "--encoding",
    type=_encoding,
    metavar="ENCODING",
    default="utf-8",
    show_default=True,
    help="Encoding of FILE, such as cp1252.",
)
@click.option(
    "--bad-lines",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="What to do at a bad line.",
)
@click.option(
    "--label",
    help="Distinguishes the rows of FILE from equal rows of other files; by default its name. With "
    "another label the same file is stored again.",
)
@click.option("--spreadsheet-safe", is_flag=True, help="Undo export --spreadsheet-safe.")
# Scripts may pass them: imports kept notes of their progress once.
@click.option("--restart", "--no-resume", is_flag=True, hidden=True, expose_value=False)
def import_file(
    file: Path,
    given: str | None,
    encoding: str,
    bad_lines: str,
    label: str | None,
    *,
    spreadsheet_safe: bool,
) -> None:
    """Import portfolios from FILE: JSON, one portfolio a line, or CSV with a header line.

    The fields are name and, optionally, dateCreated, version and portfolioId. FILE may be
    compressed with gzip; - is the standard input. A portfolio with a portfolioId keeps
    it, and is left alone if it is stored already. Any other gets an id that depends on its row, so
    that importing FILE again stores only what is missing. If the import stops, run it again.
    """
    resumable = "What is imported stays; the same command imports the rest."
    with (
        files.file_errors(file),
        files.open_source(file, encoding) as lines,
        files.file_errors(file, resumable),
    ):
        with database_errors():
            services().database.ping()  # a bulk may take far longer, and so would a wrong URI
        importer = Importer(
            services().portfolios,
            lines,
            files.format_of(file, given),
            files.label_of(file, label),
            spreadsheet_safe,
            skip=bad_lines == "skip",
        )
        importer.run()
    if importer.derived:
        click.echo(
            f"{importer.derived} rows without a portfolioId were imported before under the label "
            f"{importer.label!r}: they are left alone. If they are other portfolios, import them "
            "with --label TEXT.",
            err=True,
        )
    stored, known, skipped = importer.stored, importer.known, importer.skipped
    summary = f"{stored} imported, {known} there already, {skipped} skipped"
    if skipped and not stored + known:
        raise files.TransferError(f"No line of {file} holds a portfolio: {summary}")
    click.echo(summary)


@portfolios.command("export")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@_format
@click.option("--restart", is_flag=True, help="Start again instead of resuming an earlier export.")
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
    format = files.format_of(file, given)
    if spreadsheet_safe and format != "csv":
        raise click.UsageError("--spreadsheet-safe is for CSV alone.")
    s = services()
    _check_collection(s.database)
    exporter = Exporter(s.portfolios, file, format, spreadsheet_safe)
    with files.file_errors(file):
        stream = files.open_stream(file)
        if stream is not None:
            with stream:
                exporter.write_stream(stream)
            return
        database = f"{s.settings.mongodb_db} at {redact_uri(s.settings.mongodb_uri)}"
        count = exporter.write_file(database, restart=restart)
    click.echo(f"{count} written to {click.format_filename(file)}")


def _check_collection(database: Database) -> None:
    """End the command where MongoDB has no portfolios: a mistyped name must not empty a file."""
    list_names = partial(database.database.list_collection_names, authorizedCollections=True)
    with database_errors():
        names = database.run("listCollections", list_names, retry=True)
    if COLLECTION not in names:
        raise click.ClickException(
            f"The database {database.database.name!r} has no collection {COLLECTION!r}. Check "
            "MONGODB_DB."
        )


@portfolios.command("find")
@click.argument("name")
@click.option(
    "--limit",
    default=20,
    type=click.IntRange(1, 1000),
    show_default=True,
    help="How many to list.",
)
def find(name: str, limit: int) -> None:
    """List the portfolios whose name contains NAME, ignoring case, newest first."""
    with database_errors():
        page = services().portfolios.search(Search(name_like=name, limit=limit))
    if not page.portfolios:
        raise click.ClickException(f"No portfolio's name contains {name!r}.")
    print_table(FIELDS, (list(to_json(each).values()) for each in page.portfolios))
    if page.has_next:
        click.echo(f"{limit} of {page.total}; --limit shows more")
