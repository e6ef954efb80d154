"""``flask db``: ping MongoDB, create indexes, show sizes, create example data."""

from __future__ import annotations

import click
from flask.cli import AppGroup

from portfolio.api.services import services
from portfolio.cli.helpers import database_errors, print_table, progress_bar
from portfolio.models import PortfolioCreate
from portfolio.redaction import redact_uri
from portfolio.rules import MAX_BULK

db = AppGroup("db", help="Ping MongoDB, create indexes, show sizes, create example data.")


@db.command("ping")
def ping() -> None:
    """Ping MongoDB through a new connection."""
    s = services()
    with database_errors():
        took_ms = s.database.ping()
        version = s.database.client.server_info()["version"]
    uri = redact_uri(s.settings.mongodb_uri)
    click.echo(f"{uri} answers in {took_ms:.1f} ms: {s.database.topology}, MongoDB {version}")


@db.command("indexes")
def indexes() -> None:
    """Create missing indexes and list all."""
    database = services().database
    with database_errors():
        database.ping()  # an index may take an hour, and so would the wait for a server
        database.ensure_indexes()
        found = database.portfolios.index_information()
    print_table(
        ("index", "keys"),
        (
            (name, ", ".join(f"{key} {order}" for key, order in index["key"]))
            for name, index in sorted(found.items())
        ),
    )


@db.command("stats")
def stats() -> None:
    """Show the number and the size of the stored portfolios."""
    database = services().database
    with database_errors():
        found = database.database.command("collStats", database.portfolios.name)
    sizes = {
        "data": found["size"],
        "on disk": found["storageSize"],
        "indexes": found["totalIndexSize"],
        **{f"  {name}": size for name, size in sorted(found["indexSizes"].items())},
    }
    rows = [("portfolios", f"{found['count']:,}")]
    rows += [(name, f"{size / 2**20:,.1f} MiB") for name, size in sizes.items()]
    print_table(("", ""), rows)


@db.command("seed")
@click.argument("count", default=20, type=click.IntRange(1, 1_000_000))
@click.option("--yes", is_flag=True, help="Required in production.")
def seed(count: int, *, yes: bool) -> None:
    """Create COUNT example portfolios; 20 by default."""
    s = services()
    if s.settings.profile == "production" and not yes:
        raise click.ClickException("This is production: add --yes to confirm.")
    with progress_bar(count, "Creating") as bar:
        for first in range(0, count, MAX_BULK):
            numbers = range(first + 1, min(first + MAX_BULK, count) + 1)
            bulk = [PortfolioCreate(f"Example {number:05}") for number in numbers]
            with database_errors():
                s.portfolios.create_all(bulk)
            bar.update(len(bulk))
    click.echo(f"{count} portfolios created")
