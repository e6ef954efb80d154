"""``flask portfolios`` moves portfolios between files and the database, and loses none."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pymongo.collection import Collection

from portfolio.config import Settings
from portfolio.errors import Unavailable
from portfolio.models import Portfolio
from portfolio.storage.writer import PortfolioWriter
from tests.support.calls import V1, create
from tests.support.commands import run
from tests.support.parts import storage


def every(client: FlaskClient) -> list[dict[str, Any]]:
    return client.get(V1).json


def names(client: FlaskClient) -> list[str]:
    return [each["name"] for each in every(client)]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A file of 250 portfolios, which is three bulks."""
    file = tmp_path / "portfolios.ndjson"
    file.write_text("".join(json.dumps({"name": f"Fund {n}"}) + "\n" for n in range(250)))
    return file


@pytest.mark.parametrize("name", ["all.ndjson", "all.csv"])
def test_an_export_imported_elsewhere_is_the_same(
    app: Flask, client: FlaskClient, collection: Collection[Any], tmp_path: Path, name: str
) -> None:
    for fund in ('Größe 7, «été», "quoted"', "=1+1", " spaced "):
        create(client, fund, version=7)
    before = every(client)
    file = tmp_path / name
    exported = run(app, "export", file)
    assert (exported.exit_code, exported.output.splitlines()[-1]) == (0, f"3 written to {file}")
    collection.delete_many({})
    imported = run(app, "import", file)
    assert imported.output.splitlines()[-1] == "3 imported, 0 there already, 0 skipped"
    assert every(client) == before
    again = run(app, "import", file)
    assert again.output.splitlines()[-1] == "0 imported, 3 there already, 0 skipped"
    assert every(client) == before


def test_csv_may_name_what_it_has_alone(app: Flask, client: FlaskClient, tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    file.write_text('\ufeffname,version,other\nGrowth,3,x\n"Two\nlines",,\n')
    result = run(app, "import", file, "--bad-lines", "skip")
    assert "line 4: name: Name should have printable characters only" in result.output
    assert "Ignored: 'other' (line 1)" in result.output
    assert [(each["name"], each["version"]) for each in every(client)] == [("Growth", 3)]


BAD = {
    "nonsense": "not JSON",
    "7": "Input should be an object",
    '{"title": "Growth"}': "name: Field required",
    '{"name": "Growth", "version": -1, "dateCreated": "soon"}': "dateCreated: Input should be",
    '{"name": "Growth", "portfolioId": "7"}': "portfolioId: Input should be 24 hexadecimal digits",
    '{"name": "Growth", "portfolioId": 7}': "portfolioId: Input should be 24 hexadecimal digits",
}


@pytest.mark.parametrize(("bad", "reason"), BAD.items())
def test_a_bad_line_stops_the_import_and_says_how_to_go_on(
    app: Flask, client: FlaskClient, lines: Path, bad: str, reason: str
) -> None:
    good = lines.read_text().splitlines()
    lines.write_text("\n".join([*good[:120], bad, *good[121:]]))
    stopped = run(app, "import", lines)
    assert stopped.exit_code == 1
    assert f"line 121: {reason}" in stopped.output
    assert "run the same command again" in stopped.output
    assert names(client) == [f"Fund {n}" for n in range(120)]

    lines.write_text("\n".join(good))
    resumed = run(app, "import", lines)
    assert "130 imported, 120 there already" in resumed.output
    assert names(client) == [f"Fund {n}" for n in range(250)]


def test_bad_lines_are_skipped_where_that_is_asked_for(
    app: Flask, client: FlaskClient, lines: Path
) -> None:
    lines.write_text(lines.read_text() + "\n".join(BAD))
    result = run(app, "import", lines, "--bad-lines", "skip")
    assert result.exit_code == 0
    assert [int(n) for n in re.findall(r"Skipped: line (\d+)", result.output)] == [
        *range(251, 251 + len(BAD))
    ]
    assert result.output.splitlines()[-1] == f"250 imported, 0 there already, {len(BAD)} skipped"


@pytest.mark.parametrize("landed", [False, True], ids=["not stored", "stored but unheard of"])
def test_an_import_that_lost_the_database_goes_on_without_gap_or_double(
    app: Flask, client: FlaskClient, lines: Path, landed: bool
) -> None:
    bulks = 0

    class FailingAtTheSecond(PortfolioWriter):
        def insert_missing(self, portfolios: Sequence[Portfolio]) -> None:
            nonlocal bulks
            bulks += 1
            if bulks == 2 and not landed:
                raise Unavailable("Database unavailable")
            super().insert_missing(portfolios)
            if bulks == 2:
                raise Unavailable("Database unavailable")

    with storage(app, writer=FailingAtTheSecond):
        failed = run(app, "import", lines)
    assert failed.exit_code == 1
    assert "Database unavailable" in failed.output
    assert run(app, "import", lines).exit_code == 0
    assert names(client) == [f"Fund {n}" for n in range(250)]


def test_an_import_that_is_interrupted_says_how_to_go_on(
    app: Flask, client: FlaskClient, lines: Path
) -> None:
    class Interrupted(PortfolioWriter):
        def insert_missing(self, portfolios: Sequence[Portfolio]) -> None:
            super().insert_missing(portfolios)
            raise KeyboardInterrupt

    with storage(app, writer=Interrupted):
        stopped = run(app, "import", lines)
    assert (stopped.exit_code, stopped.output) == (
        1,
        "Error: Interrupted. What is imported stays; the same command imports the rest.\n",
    )
    assert "150 imported, 100 there already" in run(app, "import", lines).output


def test_a_database_whose_name_differs_in_case_is_named(
    client: FlaskClient, lines: Path, settings: Settings, another: Callable[..., Flask]
) -> None:
    name = settings.mongodb_db
    create(client)
    stopped = run(another(mongodb_db=name.title()), "import", lines)
    assert stopped.exit_code == 1
    assert stopped.output == (
        "Error: BulkWriteError: db already exists with different case already have: "
        f"[{name}] trying to create [{name.title()}]\n"
    )


def test_find_shows_what_contains_the_name(app: Flask, client: FlaskClient) -> None:
    for name in ("Growth", "Old growth (closed)", "Income"):
        create(client, name)
    found = run(app, "find", "GROWTH")
    assert found.exit_code == 0
    assert "Old growth (closed)" in found.output
    assert "Income" not in found.output
    assert "(closed)" in run(app, "find", "(CLOSED)").output
    assert "1 of 2; --limit shows more" in run(app, "find", "growth", "--limit", "1").output
    nothing = run(app, "find", "Bonds")
    assert (nothing.exit_code, nothing.output) == (
        1,
        "Error: No portfolio's name contains 'Bonds'.\n",
    )


def test_seed_creates_as_many_as_asked(app: Flask, client: FlaskClient) -> None:
    seeded = app.test_cli_runner().invoke(args=["db", "seed", "150"])
    assert seeded.output.splitlines()[-1] == "150 portfolios created"
    assert len(set(names(client))) == 150
