"""Import and export behave as other commands of Unix do: pipes, links, encodings, full disks."""

from __future__ import annotations

import gzip
import json
import os
import re
import resource
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from pymongo.collection import Collection

from portfolio.config import Settings
from portfolio.storage.repository import PortfolioRepository
from tests.support.commands import run, run_process
from tests.support.parts import storage

Documents = Collection[dict[str, Any]]
NAMES = [f"Fund {number}" for number in range(30)]
LINES = b"".join(b'{"name": "%b"}\n' % name.encode() for name in NAMES)


@pytest.fixture
def filled(app: Flask, collection: Documents) -> Documents:
    collection.insert_many([{"name": name, "version": 1} for name in NAMES])
    return collection


def names(collection: Documents) -> list[str]:
    return [each["name"] for each in collection.find({}, {"name": 1}).sort([("$natural", 1)])]


def exported_names(lines: bytes) -> list[str]:
    return sorted(json.loads(line)["name"] for line in lines.splitlines())


def refused(app: Flask, *arguments: Any) -> str:
    result: Result = run(app, *arguments)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    return result.output


@pytest.mark.parametrize("option", ["--restart", "--no-resume"])
def test_options_of_scripts_for_earlier_versions_are_accepted(
    app: Flask, collection: Documents, tmp_path: Path, option: str
) -> None:
    (tmp_path / "in.ndjson").write_bytes(LINES)
    assert run(app, "import", tmp_path / "in.ndjson", option).exit_code == 0
    assert names(collection) == NAMES


# Streams


def test_a_named_pipe_is_read(app: Flask, collection: Documents, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(LINES,))
    writer.start()
    result = run(app, "import", pipe)
    writer.join()
    assert result.exit_code == 0, result.output
    assert names(collection) == NAMES
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_named_pipe_is_written_to_and_stays(
    app: Flask, filled: Documents, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe.ndjson"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    result = run(app, "export", pipe)
    reader.join()
    assert (result.exit_code, result.output) == (0, "")
    assert exported_names(read[0]) == sorted(NAMES)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe.ndjson"]


def test_a_terminal_is_written_to_and_stays(app: Flask, filled: Documents) -> None:
    # A device that needs no superuser to be made.
    master, slave = os.openpty()
    device = Path(os.ttyname(slave))
    result = run(app, "export", device)
    assert (result.exit_code, result.output) == (0, "")
    assert b'"name":"Fund' in os.read(master, 1000)
    assert stat.S_ISCHR(device.stat().st_mode)
    os.close(slave)
    os.close(master)


# Files


@pytest.mark.parametrize("name", ["all.ndjson.gz", "all.csv.gz"])
def test_compressed_files_are_written_and_read_by_their_names(
    app: Flask, filled: Documents, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    assert run(app, "export", file).exit_code == 0
    plain = tmp_path / name.removesuffix(".gz")
    run(app, "export", plain)
    assert gzip.decompress(file.read_bytes()) == plain.read_bytes()
    filled.delete_many({})
    assert "30 imported" in run(app, "import", file).output
    assert sorted(names(filled)) == sorted(NAMES)


def test_a_compressed_file_is_known_by_what_it_holds(
    app: Flask, collection: Documents, tmp_path: Path
) -> None:
    for name, content in (("a.ndjson", gzip.compress(LINES)), ("b.ndjson.gz", LINES)):
        (tmp_path / name).write_bytes(content)
        assert "30 imported" in run(app, "import", tmp_path / name).output


@pytest.mark.parametrize("name", ["all.csv", "all.csv.gz"])
def test_no_portfolios_are_a_header_alone(app: Flask, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    assert run(app, "export", file).exit_code == 0
    content = gzip.decompress(file.read_bytes()) if name.endswith("gz") else file.read_bytes()
    assert content == b"portfolioId,name,dateCreated,version\r\n"


@pytest.mark.parametrize("name", ["all.ndjson", "all.csv.gz"])
def test_an_export_from_a_mistyped_database_leaves_the_earlier_file(
    app: Flask, filled: Documents, another: Callable[..., Flask], tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    run(app, "export", file)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    refused = run(another(mongodb_db="portfolo"), "export", file)
    assert (refused.exit_code, refused.output) == (
        1,
        "Error: The database 'portfolo' has no collection 'portfolio'. Check MONGODB_DB.\n",
    )
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_a_link_leads_to_is_written_with_its_mode(
    app: Flask, filled: Documents, tmp_path: Path
) -> None:
    target = tmp_path / "folder" / "target.ndjson"
    target.parent.mkdir()
    target.write_text("before\n")
    target.chmod(0o604)
    link = tmp_path / "link.ndjson"
    link.symlink_to(target)
    assert run(app, "export", link).exit_code == 0
    assert link.is_symlink()
    assert exported_names(target.read_bytes()) == sorted(NAMES)
    assert stat.S_IMODE(target.stat().st_mode) == 0o604
    assert os.listdir(target.parent) == ["target.ndjson"]


def test_an_export_has_reached_the_disk_when_it_ends(
    app: Flask, filled: Documents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "all.ndjson"
    synchronized = []

    def fsync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synchronized.append((Path(path), file.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    assert run(app, "export", file).exit_code == 0
    assert synchronized == [(tmp_path / "all.ndjson.part", False), (tmp_path, True)]


def test_an_unfinished_export_is_as_private_as_the_file_that_it_replaces(
    app: Flask, filled: Documents, tmp_path: Path
) -> None:
    file = tmp_path / "all.ndjson"
    file.touch(mode=0o600)

    modes: list[int] = []

    class Looking(PortfolioRepository):
        def batches_by_id(self, after: str | None = None) -> Any:
            part = tmp_path / "all.ndjson.part"
            modes.append(stat.S_IMODE(part.stat().st_mode))
            return iter(())

    with storage(app, Looking):
        assert run(app, "export", file).exit_code == 0
    assert modes == [0o600]


def test_a_link_in_the_place_of_an_unfinished_export_is_not_followed(
    app: Flask, filled: Documents, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    (tmp_path / "all.ndjson.part").symlink_to(victim)
    assert "all.ndjson.part: Too many levels of symbolic links" in refused(
        app, "export", tmp_path / "all.ndjson"
    )
    assert victim.read_text() == "precious\n"


def test_a_missing_folder_is_named(app: Flask, tmp_path: Path) -> None:
    told = refused(app, "export", tmp_path / "none" / "all.ndjson")
    assert f"{tmp_path}/none/all.ndjson.part: No such file or directory" in told


def test_a_full_disk_ends_an_export_in_a_line_and_it_goes_on_later(
    app: Flask, collection: Documents, settings: Settings, tmp_path: Path
) -> None:
    collection.insert_many([{"name": str(number), "version": 1} for number in range(1500)])
    file = tmp_path / "all.ndjson"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))

    failed = run_process(settings, "export", file, preexec_fn=limit)
    assert failed.returncode == 1
    assert re.fullmatch(
        rb"Error: \S+all.ndjson.part: File too large. What was written stays in \S+.part; the same "
        rb"command resumes from there.\n",
        failed.stderr,
    )
    assert (tmp_path / "all.ndjson.part").stat().st_size == 120_000
    assert "Resuming after 1000 portfolios" in run(app, "export", file).output
    assert exported_names(file.read_bytes()) == sorted(map(str, range(1500)))


# What a file may hold


def test_a_byte_order_mark_is_left_out(app: Flask, collection: Documents, tmp_path: Path) -> None:
    file = tmp_path / "all.ndjson"
    file.write_bytes(b"\xef\xbb\xbf" + LINES)
    assert run(app, "import", file).exit_code == 0
    assert names(collection) == NAMES


def test_a_line_in_another_encoding_is_named_and_the_import_goes_on_as_it_says(
    app: Flask, collection: Documents, tmp_path: Path
) -> None:
    file = tmp_path / "all.csv"
    file.write_bytes("name\nGrowth\nGröße\nIncome\n".encode("cp1252"))
    told = refused(app, "import", file)
    assert "line 3: not utf-8: byte 0xf6 at column 3; --encoding names another" in told
    assert names(collection) == ["Growth"]
    assert run(app, "import", file, "--encoding", "cp1252").exit_code == 0
    assert names(collection) == ["Growth", "Größe", "Income"]


FAULTS = {
    "UTF-16": ("a.csv", "name\nA\n".encode("utf-16"), "line 1: not utf-8: byte 0xff at column 1"),
    "cut gzip": ("a.ndjson.gz", gzip.compress(LINES)[:-9], "broken gzip data: "),
    "cell": (
        "a.csv",
        b"name,note\nGrowth," + b"x" * 140_000,
        "line 2: a cell of more than 131,072",
    ),
    "line": ("a.ndjson", b"x" * 2**21, "line 1: longer than 1,048,576 bytes"),
    "quote": ("a.csv", b'name,note\nA,"b\n' + b"C,d\n" * 9, "lines 2 to 11: the file ends within"),
    "cells": ("a.csv", b"name\nGrowth, Income\n", "line 2: 2 cells under 1 columns"),
    "quotes": ("a.csv", b'name\n"Growth" x\n', "line 2: not CSV: "),
    "semicolons": ("a.csv", b"name;version\nA;1\n", "should be separated by commas, not ';'"),
    "twice": ("a.csv", b"name,version,name\nA,1,B\n", "name is there more than once"),
    "no columns": ("a.csv", b"", "name is missing. It has nothing."),
    "JSON twice": ("a.ndjson", b'{"name": "A", "name": "B"}\n', "line 1: a key stands twice"),
    "array": ("a.ndjson", b'[\n{"name": "A"}\n]\n', "line 1: a JSON array; `jq -c '.[]'` makes"),
    "response": ("a.json", b'[{"name": "A"}]', "line 1: a JSON array; `jq -c '.[]'` makes"),
    "Macintosh": ("a.csv", b"name\rGrowth\r", "line 1: a line ends with CR alone"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_can_not_be_read_is_told_in_a_line(
    app: Flask, collection: Documents, tmp_path: Path, fault: str
) -> None:
    name, content, reason = FAULTS[fault]
    file = tmp_path / name
    file.write_bytes(content)
    told = refused(app, "import", file)
    assert reason in told
    assert len(told) < 500
    assert collection.count_documents({}) == 0
    assert os.listdir(tmp_path) == [name]


def test_a_bad_line_can_be_skipped_whatever_is_wrong_with_it(
    app: Flask, collection: Documents, tmp_path: Path
) -> None:
    file = tmp_path / "all.csv"
    file.write_bytes(
        b"name,note\nA,\n\xff,\nB,\n" + b"x" * 140_000 + b",\nC,\n" + b"y" * 2**21 + b"\nD,\n"
    )
    result = run(app, "import", file, "--bad-lines", "skip")
    assert "3 imported" not in result.output
    assert result.output.splitlines()[-1] == "4 imported, 0 there already, 3 skipped"
    assert names(collection) == ["A", "B", "C", "D"]


def test_a_file_without_any_portfolio_is_an_error(app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "all.ndjson"
    file.write_text("x\ny\n")
    told = refused(app, "import", file, "--bad-lines", "skip")
    assert f"No line of {file} holds a portfolio: 0 imported, 0 there already, 2 skipped" in told


def test_unknown_fields_are_named_once(app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "all.ndjson"
    file.write_text('{"name": "A"}\n' + '{"name": "B", "versoin": 1}\n' * 3)
    told = run(app, "import", file)
    assert told.exit_code == 0
    assert told.output.count("Ignored: 'versoin' (line 2) is none of portfolioId, name") == 1


def test_an_encoding_that_can_not_be_read_is_refused(app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "all.csv"
    file.write_text("name\nGrowth\n")
    for encoding in ("utf-9", "rot13", "\0", "utf-16", "utf-32-le", "cp037"):
        result = run(app, "import", file, "--encoding", encoding)
        assert result.exit_code == 2
        assert "convert FILE to UTF-8" in result.output


# Spreadsheets


def test_formulas_are_escaped_where_that_is_asked_for_and_come_back(
    app: Flask, collection: Documents, tmp_path: Path
) -> None:
    collection.insert_many([{"name": "=1+1"}, {"name": "a=b"}])
    plain, safe = tmp_path / "plain.csv", tmp_path / "safe.csv"
    run(app, "export", plain)
    run(app, "export", safe, "--spreadsheet-safe")
    assert safe.read_bytes() == plain.read_bytes().replace(b",=1+1,", b",'=1+1,")
    assert safe.read_bytes() != plain.read_bytes()
    collection.delete_many({})
    assert run(app, "import", safe, "--spreadsheet-safe").exit_code == 0
    assert sorted(names(collection)) == ["=1+1", "a=b"]


def test_only_csv_has_cells_to_escape(app: Flask, tmp_path: Path) -> None:
    result = run(app, "export", tmp_path / "all.ndjson", "--spreadsheet-safe")
    assert (result.exit_code, "for CSV alone" in result.output) == (2, True)
