"""A data folder that can't be used is told in one line, and nothing is left running."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from portfolio.devserver.data_folder import DataFolderError, local_environment, lock_folder
from portfolio.devserver.mongod import Mongod, MongodError
from tests.devserver.conftest import LocalRun
from tests.support.disks import disk

# WiredTiger's mark of a log file, after which its version stands.
_LOG_MAGIC = b"\x64\x10\x10\x00"


def only_error(run: LocalRun) -> str:
    """Return the one line that a run has said of its failure."""
    assert run.wait() == 1
    assert run.remaining() == set()
    (line,) = [line for line in run.said.splitlines() if not line.startswith("MongoDB: ")]
    assert line.startswith("Error: ")
    return line


def test_a_file_in_the_place_of_the_folder_is_told(
    local: Callable[..., LocalRun], tmp_path: Path
) -> None:
    (tmp_path / ".data").write_text("a file")
    assert only_error(local()) == "Error: .data can't be used: Not a directory."


def test_a_folder_that_can_not_be_written_is_told(
    local: Callable[..., LocalRun], tmp_path: Path
) -> None:
    with disk(tmp_path / ".data", "ro"):
        assert only_error(local()) == "Error: .data can't be used: Read-only file system."


@pytest.mark.slow
@pytest.mark.parametrize("filled", [4096, 0], ids=["from the start", "a little later"])
def test_a_full_disk_is_told(local: Callable[..., LocalRun], tmp_path: Path, filled: int) -> None:
    with disk(tmp_path / ".data", f"size={filled or 400 * 1024}"):
        (tmp_path / ".data" / "other").write_bytes(bytes(filled))
        assert "No space left on device" in only_error(local())


@pytest.mark.slow
def test_damaged_files_are_told(local: Callable[..., LocalRun], data: Path) -> None:
    (data / "WiredTiger.wt").write_bytes(b"garbage" * 1000)
    told = only_error(local())
    assert "WiredTiger.wt is corrupted" in told
    assert told.endswith("Its log: .data/mongodb/mongod.log")


@pytest.mark.slow
def test_files_of_another_version_are_told(local: Callable[..., LocalRun], data: Path) -> None:
    for journal in (data / "journal").glob("WiredTigerLog.*"):
        content = bytearray(journal.read_bytes())
        content[content.index(_LOG_MAGIC) + len(_LOG_MAGIC)] = 99
        journal.write_bytes(content)
    assert ".data/mongodb is of another version of MongoDB: put its mongod" in only_error(local())


def test_the_exit_code_for_another_version_is_told(tmp_path: Path) -> None:
    with pytest.raises(MongodError, match="is of another version of MongoDB"):
        pretend(tmp_path, "exit 62").start()


def test_a_missing_library_is_told(tmp_path: Path) -> None:
    mongod = pretend(tmp_path, "echo 'mongod: libcurl.so.4: cannot open shared object'; exit 127")
    with pytest.raises(MongodError, match=r"code 127: mongod: libcurl\.so\.4: cannot open"):
        mongod.start()


def test_a_program_that_can_not_run_is_told(tmp_path: Path) -> None:
    program = tmp_path / "mongod"
    program.write_text("no program")
    with pytest.raises(MongodError, match="Permission denied"):
        Mongod(tmp_path / "data", binary=program).start()


def pretend(folder: Path, script: str) -> Mongod:
    """Return a MongoDB whose program is a shell script."""
    program = folder / "mongod"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Mongod(folder / "data", binary=program)


def test_another_mongod_on_its_port_is_not_taken_for_its_own(
    replica_set: Mongod, tmp_path: Path
) -> None:
    mongod = Mongod(tmp_path, replica_set="local", port=replica_set.port)
    with pytest.raises(MongodError, match=r"code 48: .*Address already in use"):
        mongod.start()


# The note


@pytest.mark.parametrize("note", [b"", b"\xff\xfe", b"{"])
def test_a_note_that_can_not_be_read_counts_as_none(tmp_path: Path, note: bytes) -> None:
    with lock_folder({"PORT": "8000"}, tmp_path):
        (tmp_path / "run.json").write_bytes(note)
        assert local_environment(tmp_path) == {}


def test_a_folder_in_use_names_who_uses_it(tmp_path: Path) -> None:
    with lock_folder({"PORT": "8000"}, tmp_path):
        assert local_environment(tmp_path) == {"PORT": "8000"}
        with pytest.raises(DataFolderError, match="already: http://localhost:8000"):
            lock_folder({"PORT": "8001"}, tmp_path)
    assert local_environment(tmp_path) == {}
    with lock_folder({"PORT": "8001"}, tmp_path):
        assert local_environment(tmp_path) == {"PORT": "8001"}
