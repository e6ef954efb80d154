"""An import stores each row of a file once, whatever stops it and however often it is repeated."""

from __future__ import annotations

import gzip
import json
import signal
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from click.testing import Result
from flask import Flask
from pymongo.collection import Collection

from portfolio.app import create_app
from portfolio.config import Settings
from tests.support.commands import run, run_process, start_process

Documents = Collection[dict[str, Any]]

COUNT = 600
# Every third name stands in the file twice, in rows that are equal.
NAMES = [f"Fund {number - number % 3 % 2}" for number in range(COUNT)]

# Runs ``flask``, and dies by kill -9 the third time that it has called a method.
KILLED = """
import os, signal
from flask.cli import main
from portfolio.service import PortfolioService

inner, calls = PortfolioService.{method}, []
def die_at_the_third(self, given):
    result = inner(self, given)
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
PortfolioService.{method} = die_at_the_third
main()
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of rows that bring no ids."""
    return write(tmp_path / "funds.ndjson", NAMES)


def write(file: Path, names: list[str]) -> Path:
    file.write_text("".join(json.dumps({"name": name}) + "\n" for name in names))
    return file


def stored(collection: Documents) -> Counter[str]:
    return Counter(document["name"] for document in collection.find({}, {"name": 1}))


def imported(app: Flask, file: Path, *options: str) -> str:
    result = run(app, "import", file, *options)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("method", ["find_stored_ids", "store_missing"])
def test_an_import_that_is_killed_goes_on_without_gap_or_double(
    app: Flask, collection: Documents, settings: Settings, file: Path, method: str
) -> None:
    killed = run_process(settings, "import", file, program=KILLED.replace("{method}", method))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = collection.count_documents({})
    assert before in (200, 300)
    assert f"{COUNT - before} imported, {before} there already" in imported(app, file)
    assert stored(collection) == Counter(NAMES)


def test_two_imports_of_one_file_at_once_store_it_once(
    collection: Documents, settings: Settings, file: Path
) -> None:
    processes = [start_process(settings, "import", file) for _ in range(2)]
    for process in processes:
        _, told = process.communicate()
        assert process.returncode == 0, told
    assert stored(collection) == Counter(NAMES)


@pytest.mark.both_topologies
def test_two_imports_of_two_copies_at_once_take_nothing_from_each_other(
    app: Flask, collection: Documents, tmp_path: Path
) -> None:
    copies = []
    for folder in "ab":
        (tmp_path / folder).mkdir()
        copies.append(tmp_path / folder / "funds.csv")
        rows = "".join(f"{number:024x},Fund {number}\n" for number in range(1, 501))
        copies[-1].write_text(f"portfolioId,name\n{rows}")
    results: list[Result] = []
    threads = [
        threading.Thread(target=lambda copy=copy: results.append(run(app, "import", copy)))
        for copy in copies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.exit_code for result in results] == [0, 0]
    assert stored(collection) == Counter(f"Fund {number}" for number in range(1, 501))


def test_importing_a_file_again_stores_nothing(
    app: Flask, collection: Documents, file: Path
) -> None:
    assert f"{COUNT} imported, 0 there already" in imported(app, file)
    told = imported(app, file)
    assert f"0 imported, {COUNT} there already" in told
    assert "--label" in told
    assert stored(collection) == Counter(NAMES)


def test_a_file_that_has_grown_adds_what_is_new(
    app: Flask, collection: Documents, file: Path
) -> None:
    imported(app, file)
    write(file, [*NAMES, "New", NAMES[0]])
    assert "2 imported" in imported(app, file)
    assert stored(collection) == Counter([*NAMES, "New", NAMES[0]])


def test_equal_rows_of_two_files_are_two_portfolios(
    app: Flask, collection: Documents, file: Path, tmp_path: Path
) -> None:
    imported(app, file)
    imported(app, write(tmp_path / "others.ndjson", NAMES))
    imported(app, file, "--label", "once more")
    assert stored(collection) == Counter(NAMES * 3)


def test_a_file_keeps_its_rows_when_it_is_compressed_and_moved(
    app: Flask, collection: Documents, file: Path, tmp_path: Path
) -> None:
    imported(app, file)
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "funds.ndjson.gz"
    moved.write_bytes(gzip.compress(file.read_bytes()))
    assert f"0 imported, {COUNT} there already" in imported(app, moved)


def test_of_a_file_that_was_changed_what_is_missing_is_stored(
    app: Flask, collection: Documents, file: Path
) -> None:
    imported(app, file)
    changed = ["First", *NAMES[:300], "Corrected", *NAMES[301:]]
    write(file, changed)
    assert f"2 imported, {COUNT - 1} there already" in imported(app, file)
    assert stored(collection) == Counter([*NAMES, "First", "Corrected"])


def test_lines_that_were_skipped_can_be_corrected_later(
    app: Flask, collection: Documents, file: Path
) -> None:
    lines = file.read_text().splitlines()
    file.write_text("\n".join(["bad", *lines]))
    imported(app, file, "--bad-lines", "skip")
    file.write_text("\n".join(['{"name": "Corrected"}', *lines]))
    assert "1 imported" in imported(app, file)
    assert stored(collection) == Counter([*NAMES, "Corrected"])


def test_documents_that_a_killed_client_has_locked_are_waited_for(
    app: Flask, collection: Documents, settings: Settings, tmp_path: Path
) -> None:
    impatient = create_app(replace(settings, request_timeout_ms=500))
    file = tmp_path / "one.ndjson"
    file.write_text('{"portfolioId": "0123456789abcdef01234567", "name": "Growth"}\n')
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(run(impatient, "import", file)))
    with collection.database.client.start_session() as session:
        session.start_transaction()
        held = {"_id": ObjectId("0123456789abcdef01234567"), "name": "Held"}
        collection.insert_one(held, session=session)
        thread.start()
        # Longer than a request may take.
        thread.join(1.5)
        assert thread.is_alive(), results
        session.abort_transaction()
    thread.join()
    impatient.extensions["portfolio"].database.close()
    assert results[0].exit_code == 0, results[0].output
    assert stored(collection) == Counter(["Growth"])
