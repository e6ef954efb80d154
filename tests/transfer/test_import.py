"""An import stores each row of a file once, whatever stops it, whatever becomes of its note."""

from __future__ import annotations

import fcntl
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
from portfolio.cli.transfer.notes import Note
from portfolio.config import Settings
from tests.support.commands import run, run_process, start_process

Documents = Collection[dict[str, Any]]

COUNT = 600
# Every third name stands in the file twice, in rows that are equal.
NAMES = [f"Fund {number - number % 3 % 2}" for number in range(COUNT)]

# Runs ``flask``, and dies by kill -9 at one place, the third time that it comes there.
KILLED = """
import os, signal
from pathlib import Path
from flask.cli import main
from portfolio.service import PortfolioService
from portfolio.cli.transfer.notes import Note

def die_at_the_third(owner, name, *, before):
    inner, calls = getattr(owner, name), []
    def outer(self, *arguments, **options):
        if not isinstance(self, Path) or self.name.endswith(".new"):
            calls.append(1)
        if before and len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        result = inner(self, *arguments, **options)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, outer)

die_at_the_third({place})
main()
"""
PLACES = {
    "a bulk is looked for": 'PortfolioService, "find_stored_ids", before=False',
    "a bulk is stored": 'PortfolioService, "store_missing", before=False',
    "a note is half replaced": 'Path, "replace", before=True',
    "a note is written": 'Note, "write", before=False',
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of a thousand rows that bring no ids."""
    return write(tmp_path / "funds.ndjson", NAMES)


def write(file: Path, names: list[str]) -> Path:
    file.write_text("".join(json.dumps({"name": name}) + "\n" for name in names))
    return file


def note_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.progress")


def stored(collection: Documents) -> Counter[str]:
    return Counter(document["name"] for document in collection.find({}, {"name": 1}))


def imported(app: Flask, file: Path, *options: str) -> str:
    result = run(app, "import", file, *options)
    assert result.exit_code == 0, result.output
    return result.output


def refused(app: Flask, file: Path, *options: str) -> str:
    result: Result = run(app, "import", file, *options)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    return result.output


def stop_midway(app: Flask, file: Path, bulks: int = 3) -> None:
    """Let an import end behind some bulks, as by Ctrl-C."""
    with pytest.MonkeyPatch.context() as patched:
        write, calls = Note.write, iter(range(bulks + 1))

        def interrupted(note: Note, content: Any, **options: Any) -> None:
            write(note, content, **options)
            if next(calls) == bulks:
                raise KeyboardInterrupt

        patched.setattr(Note, "write", interrupted)
        assert run(app, "import", file).exit_code == 1
    assert note_of(file).exists()


@pytest.mark.parametrize(
    ("place", "lost"),
    [
        ("a bulk is stored", True),
        *(pytest.param(place, False, marks=pytest.mark.slow) for place in PLACES),
    ],
)
def test_an_import_that_is_killed_goes_on_without_gap_or_double(
    app: Flask, collection: Documents, settings: Settings, file: Path, place: str, lost: bool
) -> None:
    program = KILLED.replace("{place}", PLACES[place])
    killed = run_process(settings, "import", file, program=program)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert collection.count_documents({}) < COUNT
    if lost:
        note_of(file).unlink()
    imported(app, file)
    assert stored(collection) == Counter(NAMES)
    assert not note_of(file).exists()


def test_two_imports_of_one_file_at_once_store_it_once(
    collection: Documents, settings: Settings, file: Path
) -> None:
    processes = [start_process(settings, "import", file) for _ in range(2)]
    told = [process.communicate()[1].decode() for process in processes]
    # One of them may begin when the other has ended.
    for process, complaint in zip(processes, told, strict=True):
        assert process.returncode == 0 or "Another import is reading" in complaint
    assert 0 in [process.returncode for process in processes]
    assert stored(collection) == Counter(NAMES)


def test_what_was_imported_before_a_stop_counts_as_there_already(app: Flask, file: Path) -> None:
    stop_midway(app, file)
    good = file.read_text().splitlines()[:300]
    file.write_text("\n".join([*good, "bad"]))
    told = imported(app, file, "--bad-lines", "skip")
    assert told.splitlines()[-1] == "0 imported, 300 there already, 1 skipped"


def test_a_file_that_another_import_reads_is_refused(app: Flask, file: Path) -> None:
    with file.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "Another import is reading" in refused(app, file)
    imported(app, file)


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


def test_another_file_of_the_same_name_is_refused(
    app: Flask, collection: Documents, file: Path
) -> None:
    stop_midway(app, file)
    before = stored(collection)
    write(file, [f"Other {number}" for number in range(COUNT)])
    told = refused(app, file)
    assert "its first 300 lines are not the ones that were imported" in told
    assert "--restart" in told
    assert stored(collection) == before
    imported(app, file, "--restart")
    assert collection.count_documents({"name": {"$regex": "^Other"}}) == COUNT


def test_a_file_that_has_become_shorter_is_refused(app: Flask, file: Path) -> None:
    stop_midway(app, file)
    write(file, NAMES[:200])
    assert "its first 300 lines" in refused(app, file)


def test_a_note_of_another_database_is_refused(
    app: Flask, collection: Documents, settings: Settings, file: Path
) -> None:
    stop_midway(app, file)
    other = create_app(replace(settings, mongodb_db=f"{settings.mongodb_db}-other"))
    database = other.extensions["portfolio"].database
    try:
        told = refused(other, file)
        assert f"is of a transfer with {settings.mongodb_db} at" in told
        assert f"this is {settings.mongodb_db}-other at" in told
        assert database.portfolios.count_documents({}) == 0
        imported(other, file, "--restart")
        assert stored(database.portfolios) == Counter(NAMES)
    finally:
        database.client.drop_database(database.database.name)
        database.close()
    assert collection.count_documents({}) == 300


def test_a_note_of_a_collection_that_was_dropped_is_refused(
    app: Flask, collection: Documents, file: Path
) -> None:
    stop_midway(app, file)
    collection.drop()
    assert "whose collection was dropped since" in refused(app, file)
    imported(app, file, "--restart")
    assert stored(collection) == Counter(NAMES)
    # Every test begins with the indexes there.
    app.extensions["portfolio"].database.ensure_indexes()


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


def test_a_file_that_was_changed_since_is_refused_until_that_is_meant(
    app: Flask, collection: Documents, file: Path
) -> None:
    imported(app, file)
    changed = [*NAMES[:300], "Corrected", *NAMES[301:]]
    write(file, changed)
    told = refused(app, file)
    assert "Line 302 was imported before, but line 301 was not" in told
    assert stored(collection) == Counter(NAMES)
    assert f"1 imported, {COUNT - 1} there already" in imported(app, file, "--restart")
    assert stored(collection) == Counter([*NAMES, "Corrected"])


def test_a_portfolio_that_was_deleted_does_not_come_back_unasked(
    app: Flask, collection: Documents, file: Path
) -> None:
    imported(app, file)
    collection.delete_one({"name": NAMES[0]})
    assert "or portfolios were deleted" in refused(app, file)
    assert collection.count_documents({}) == COUNT - 1


def test_a_restart_that_is_stopped_is_still_a_restart(
    app: Flask, collection: Documents, file: Path
) -> None:
    imported(app, file)
    changed = ["First", *NAMES]
    write(file, changed)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Note, "remove", lambda _: None)
        bad = file.read_text().splitlines()
        file.write_text("\n".join([*bad[:500], "bad", *bad[500:]]))
        assert "line 501: not JSON" in refused(app, file, "--restart")
    file.write_text("\n".join(bad))
    assert "Going on after line 500" in imported(app, file)
    assert stored(collection) == Counter(changed)


def test_lines_that_were_skipped_can_be_corrected_later(
    app: Flask, collection: Documents, file: Path
) -> None:
    lines = file.read_text().splitlines()
    file.write_text("\n".join(["bad", *lines]))
    imported(app, file, "--bad-lines", "skip")
    file.write_text("\n".join(['{"name": "Corrected"}', *lines]))
    assert "1 imported" in imported(app, file, "--restart")
    assert stored(collection) == Counter([*NAMES, "Corrected"])


@pytest.mark.parametrize("content", ["{", "[]", "\0" * 100, '{"line": 100, "run": "0123"}'])
def test_a_damaged_note_is_refused(
    app: Flask, collection: Documents, file: Path, content: str
) -> None:
    stop_midway(app, file)
    note_of(file).write_text(content)
    told = refused(app, file)
    assert f"{note_of(file)} is damaged" in told
    assert "--restart" in told
    imported(app, file, "--restart")
    assert stored(collection) == Counter(NAMES)


def test_nothing_is_stored_where_no_note_can_be_written(
    app: Flask, collection: Documents, file: Path
) -> None:
    # As in a folder that can only be read, also for a superuser.
    note_of(file).with_suffix(".progress.new").mkdir()
    told = refused(app, file)
    assert f"{note_of(file)}.new: Is a directory. Nothing is imported" in told
    assert collection.count_documents({}) == 0
    imported(app, file, "--no-resume")
    assert stored(collection) == Counter(NAMES)


def test_a_disk_that_becomes_full_stops_the_import_and_doubles_nothing(
    app: Flask, collection: Documents, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = Note.write, iter(range(COUNT))

    def full(note: Note, content: Any, **options: Any) -> None:
        if next(calls) >= 3:
            raise OSError(28, "No space left on device")
        write(note, content, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Note, "write", full)
        told = refused(app, file)
    assert "No space left on device. All up to line 200 is imported, perhaps more" in told
    assert collection.count_documents({}) == 300
    assert "Going on after line 200" in imported(app, file)
    assert stored(collection) == Counter(NAMES)


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
