"""Each worker shows itself in a file of its own; nobody sees half a file, or one of the dead."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from portfolio.observability.shared_state import SharedState, replace_file
from tests.support.gunicorn import ROOT

# A process that shows what it is told on its standard input, line by line, until that closes.
_WRITER = """
import sys
from pathlib import Path
from portfolio.observability.shared_state import SharedState
shared = SharedState(Path(sys.argv[1]))
for line in sys.stdin:
    shared.publish({"content": line.strip() * int(sys.argv[2])})
    print("shown", flush=True)
"""


class Writer:
    """Another worker."""

    def __init__(self, folder: Path, repeat: int = 1) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(folder), str(repeat)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def file(self) -> str:
        return f"worker-{self.process.pid}.json"

    def send(self, content: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(content + "\n")
        self.process.stdin.flush()

    def show(self, content: str) -> None:
        self.send(content)
        assert self.process.stdout
        assert self.process.stdout.readline() == "shown\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def shared(tmp_path: Path) -> SharedState:
    return SharedState(tmp_path)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(tmp_path)
    yield writer
    writer.kill()


def contents(shared: SharedState) -> list[str]:
    return sorted(state["content"] for state in shared.read().values())


def test_each_process_sees_what_all_show(shared: SharedState, writer: Writer) -> None:
    shared.publish({"content": "mine"})
    writer.show("theirs")
    assert contents(shared) == ["mine", "theirs"]
    shared.publish({"content": "mine, later"})
    writer.show("theirs, later")
    assert contents(shared) == ["mine, later", "theirs, later"]


def test_the_file_of_a_killed_process_is_removed(
    shared: SharedState, writer: Writer, tmp_path: Path
) -> None:
    writer.show("theirs")
    draft = tmp_path / f"{writer.file}.{writer.process.pid}"
    draft.write_text('{"content": "never finis')
    writer.kill()
    assert shared.read() == {}
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_written_for_long_belongs_to_nobody(
    shared: SharedState, writer: Writer, tmp_path: Path
) -> None:
    writer.show("of a process that had this id before a restart")
    long_ago = time.time() - 100
    os.utime(tmp_path / writer.file, (long_ago, long_ago))
    assert shared.read() == {}


def test_who_leaves_is_seen_no_more(shared: SharedState) -> None:
    shared.publish({"content": "mine"})
    shared.remove()
    shared.remove()
    assert shared.read() == {}


@pytest.mark.parametrize("torn", [b"", b'{"content": "th', b"\xff", b"7"])
def test_a_file_that_is_torn_is_left_out(
    shared: SharedState, writer: Writer, tmp_path: Path, torn: bytes
) -> None:
    shared.publish({"content": "mine"})
    writer.show("theirs")
    (tmp_path / writer.file).write_bytes(torn)
    assert contents(shared) == ["mine"]


def test_other_files_are_left_alone(shared: SharedState, tmp_path: Path) -> None:
    for name in ("board", "control.json", "worker-1x.json", "worker-99999999999999.json"):
        (tmp_path / name).write_text("{}")
    assert shared.read() == {}
    assert len(list(tmp_path.iterdir())) == 4


def test_a_missing_folder_shows_nobody(tmp_path: Path) -> None:
    assert SharedState(tmp_path / "missing").read() == {}


def test_a_reader_never_sees_a_mixture_of_two_writings(tmp_path: Path) -> None:
    repeat = 100_000
    writer = Writer(tmp_path, repeat)
    shared = SharedState(tmp_path)
    try:
        writer.show("a")
        for number in range(200):
            writer.send("ba"[number % 2])
            assert contents(shared) in (["a" * repeat], ["b" * repeat])
    finally:
        writer.kill()


def test_a_failed_writing_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "control.json"
    replace_file(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_in_the_place_of_a_file_is_not_followed(shared: SharedState, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    own = tmp_path / f"worker-{os.getpid()}.json"
    own.symlink_to(victim)
    shared.publish({"content": "mine"})
    assert contents(shared) == ["mine"]
    draft = tmp_path / f"{own.name}.{os.getpid()}"
    draft.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        shared.publish({"content": "mine"})
    shared.publish({"content": "mine, later"})
    assert victim.read_text() == "untouched"


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "8000"
    SharedState(folder).open()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_only_a_process_that_has_opened_the_folder_sees_others(tmp_path: Path) -> None:
    shared, opened = SharedState(tmp_path), SharedState(tmp_path)
    opened.open()
    writer = Writer(tmp_path)
    try:
        writer.show("of a service that runs on this machine")
        assert shared.others() == []
        assert len(opened.others()) == 1
    finally:
        writer.kill()
