"""An export that was interrupted goes on behind what is written: nothing twice, nothing lost."""

from __future__ import annotations

import csv
import fcntl
import gzip
import io
import signal
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from bson import ObjectId
from flask import Flask
from pymongo.collection import Collection

from portfolio.config import Settings
from portfolio.errors import Unavailable
from portfolio.storage.repository import PortfolioRepository
from tests.support.commands import run, run_process
from tests.support.parts import storage

Documents = Collection[dict[str, Any]]

# Ids far apart, so that others fit between them, stored in another order than theirs.
COUNT = 250
IDS = [ObjectId(f"{number * 1000:024x}") for number in range(1, COUNT + 1)]
NAMES = ("Größe 7, «été»", 'a "quoted" one', "two\r\nlines", '"', "plain")
# What the interrupted exports below have read by then.
BATCH = 40

# Runs ``flask``, and dies by kill -9 when it asks for the fourth list of an export.
KILLED = """
import os, signal
from functools import partial
from flask.cli import main
from portfolio.storage.repository import PortfolioRepository
from tests.support.parts import storage
from wsgi import app

class Killed(PortfolioRepository):
    def batches_by_id(self, after=None):
        for number, batch in enumerate(super().batches_by_id(after)):
            if number == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

with storage(app, partial(Killed, batch_size=70)):
    main()
"""


@pytest.fixture
def stored(collection: Documents) -> Documents:
    """A collection of 250 portfolios, some without a date or a version."""
    documents = [
        {"_id": identity, "name": NAMES[number % len(NAMES)]}
        | ({} if number % 3 else {"version": number})
        for number, identity in enumerate(IDS)
    ]
    collection.insert_many(documents[1::2] + documents[::2])
    return collection


each_format = pytest.mark.parametrize(
    "file", ["all.ndjson", "all.csv", "all.csv.gz"], indirect=True
)


@pytest.fixture
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where to export to."""
    return tmp_path / getattr(request, "param", "all.csv.gz")


def part_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.part")


def note_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.part.note")


def export(app: Flask, file: Path, *options: str) -> str:
    result = run(app, "export", file, *options)
    assert result.exit_code == 0, result.output
    return result.output


def whole(app: Flask, file: Path) -> bytes:
    """Return what an export writes that nothing interrupts."""
    export(app, file)
    written = content(file)
    file.unlink()
    return written


def content(file: Path) -> bytes:
    """Return what ``file`` holds, uncompressed."""
    written = file.read_bytes()
    return gzip.decompress(written) if ".gz" in file.suffixes else written


def ids(file: Path) -> list[ObjectId]:
    if ".csv" in file.suffixes:
        rows: Any = list(csv.DictReader(io.StringIO(content(file).decode(), newline="")))
    else:
        rows = map(orjson.loads, content(file).splitlines())
    return [ObjectId(row["portfolioId"]) for row in rows]


def interrupt(app: Flask, file: Path, error: Any) -> str:
    """Let an export meet ``error`` at its third list; return what it said."""

    class Broken(PortfolioRepository):
        def batches_by_id(self, after: str | None = None) -> Iterator[Any]:
            for number, batch in enumerate(super().batches_by_id(after)):
                if number == 2:
                    raise error
                yield batch

    with storage(app, partial(Broken, batch_size=BATCH)):
        result = run(app, "export", file)
    assert result.exit_code == 1
    assert not file.exists()
    return result.output


@each_format
def test_an_export_is_in_the_order_of_ids_and_has_what_lacks_a_date(
    app: Flask, stored: Documents, file: Path
) -> None:
    assert export(app, file).splitlines()[-1] == f"{COUNT} written to {file}"
    assert ids(file) == IDS


@each_format
def test_an_export_that_is_resumed_twice_equals_a_whole_one(
    app: Flask, stored: Documents, file: Path
) -> None:
    expected = whole(app, file)
    interrupt(app, file, Unavailable("Database unavailable"))
    stopped = interrupt(app, file, KeyboardInterrupt())
    assert f"Error: Interrupted. What was written stays in {part_of(file)}; the same" in stopped
    told = export(app, file).splitlines()
    assert told[0].startswith(f"Resuming after {4 * BATCH} portfolios")
    assert told[-1] == f"{COUNT} written to {file}"
    assert content(file) == expected
    assert not part_of(file).exists()


@each_format
def test_an_export_goes_on_wherever_its_last_step_was_torn(
    app: Flask, stored: Documents, file: Path
) -> None:
    expected = whole(app, file)
    interrupt(app, file, KeyboardInterrupt())
    part, note = part_of(file).read_bytes(), note_of(file).read_bytes()
    interrupt(app, file, KeyboardInterrupt())
    step = part_of(file).read_bytes()[len(part) :]
    for end in range(0, len(step) + 1, len(step) // 10):
        part_of(file).write_bytes(part + step[:end])
        note_of(file).write_bytes(note)
        assert f"Resuming after {2 * BATCH} portfolios" in export(app, file)
        assert content(file) == expected, step[:end]
        file.unlink()

    part_of(file).write_bytes(part + step)
    note_of(file).write_bytes(note)
    stored.delete_many({"_id": {"$in": IDS[2 * BATCH :]}})
    export(app, file)
    assert ids(file) == IDS[: 2 * BATCH], "nothing of a step stays that is not taken again"


@each_format
def test_a_part_that_was_truncated_or_replaced_is_refused(
    app: Flask, stored: Documents, file: Path
) -> None:
    interrupt(app, file, KeyboardInterrupt())
    written = part_of(file).read_bytes()
    for other in (written[:-1], b"x" * len(written), written[:-5] + bytes(9), written[10:] * 2):
        part_of(file).write_bytes(other)
        refused = run(app, "export", file)
        assert refused.exit_code == 1
        assert f"{part_of(file)} does not match {note_of(file)}" in refused.output
        assert part_of(file).read_bytes() == other
    export(app, file, "--restart")
    assert ids(file) == IDS


def test_a_compressed_export_does_not_go_on_uncompressed(
    app: Flask, stored: Documents, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    for name in ("all.ndjson", "all.ndjson.gz"):
        (tmp_path / name).symlink_to(target)
    interrupt(app, tmp_path / "all.ndjson.gz", KeyboardInterrupt())
    refused = run(app, "export", tmp_path / "all.ndjson")
    assert refused.exit_code == 1
    assert "as ndjson, compressed; this is" in refused.output


def test_an_export_goes_on_after_kill_9_midway(
    app: Flask, settings: Settings, stored: Documents, file: Path
) -> None:
    expected = whole(app, file)
    killed = run_process(settings, "export", file, program=KILLED)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not file.exists()
    # Three lists of 70, whatever the buffers of files hold.
    assert ids(part_of(file)) == IDS[: 3 * 70]
    assert "Resuming after" in export(app, file)
    assert content(file) == expected


def test_what_existed_all_along_comes_once_whatever_others_do_meanwhile(
    app: Flask, stored: Documents, file: Path
) -> None:
    interrupt(app, file, KeyboardInterrupt())
    gone = {IDS[0], IDS[2 * BATCH - 1], IDS[2 * BATCH], IDS[-1]}
    stored.delete_many({"_id": {"$in": list(gone)}})
    stored.insert_many(
        {"_id": ObjectId(f"{number:024x}"), "name": "New"}
        for number in (1, 2 * BATCH * 1000 + 1, COUNT * 1000 + 1)
    )
    export(app, file)
    written = ids(file)
    assert len(written) == len(set(written))
    assert set(IDS) - gone <= set(written)


def test_documents_with_foreign_ids_hide_no_portfolio(
    app: Flask, stored: Documents, file: Path
) -> None:
    others: list[Any] = ["a string", 5, {"a": "document"}, True]
    dated = {"name": "Other", "dateCreated": datetime(2024, 1, 1)}
    stored.insert_many({"_id": other, **dated} for other in others)
    export(app, file)
    assert ids(file) == IDS


def test_an_export_begins_anew_where_that_is_asked_for(
    app: Flask, stored: Documents, file: Path
) -> None:
    interrupt(app, file, KeyboardInterrupt())
    stored.update_one({"_id": IDS[0]}, {"$set": {"name": "Changed"}})
    assert "Resuming" not in export(app, file, "--restart")
    assert ids(file) == IDS
    assert b"Changed" in content(file)


def test_an_export_does_not_go_on_from_another_database(
    app: Flask,
    stored: Documents,
    file: Path,
    settings: Settings,
    another: Callable[..., Flask],
) -> None:
    interrupt(app, file, KeyboardInterrupt())
    other = another(mongodb_db=f"{settings.mongodb_db}-other")
    other.extensions["portfolio"].database.ensure_indexes()
    refused = run(other, "export", file)
    assert refused.exit_code == 1
    assert f"{part_of(file)} has portfolios of {settings.mongodb_db} at" in refused.output
    assert not file.exists()
    export(app, file)
    assert ids(file) == IDS


def test_an_export_does_not_go_on_where_nothing_tells_the_database(
    app: Flask, stored: Documents, file: Path
) -> None:
    interrupt(app, file, KeyboardInterrupt())
    written = part_of(file).read_bytes()
    note_of(file).unlink()
    refused = run(app, "export", file)
    assert refused.exit_code == 1
    assert f"{note_of(file)} is missing or damaged" in refused.output
    assert "--restart" in refused.output
    assert part_of(file).read_bytes() == written
    for damaged in ("{", "[]", "{}", '{"line": 100}', "\0" * 100):
        note_of(file).write_text(damaged)
        assert f"{note_of(file)} is missing or damaged" in run(app, "export", file).output
    export(app, file, "--restart")
    assert ids(file) == IDS
    assert not note_of(file).exists()


def test_two_exports_do_not_write_one_file_at_once(
    app: Flask, stored: Documents, file: Path
) -> None:
    with part_of(file).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        refused = run(app, "export", file, "--restart")
    assert refused.exit_code == 1
    assert "Another export is writing" in refused.output
    export(app, file)
    assert ids(file) == IDS
