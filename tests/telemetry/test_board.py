"""The board: each process shows itself, sees the others that live, and never half of one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from portfolio.telemetry.board import CAPACITY, SLOT_BYTES, SLOTS, Board, prepare_folder
from tests.gunicorn import ROOT

# A process that shows what it is told on its standard input, line by line, until that closes.
_WRITER = """
import sys
from pathlib import Path
from portfolio.telemetry.board import Board
board = Board(Path(sys.argv[1]))
for line in sys.stdin:
    board.publish(line.strip().encode() * int(sys.argv[2]))
    print("shown", flush=True)
"""


class Writer:
    """Another process on the board."""

    def __init__(self, path: Path, repeat: int = 1) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), str(repeat)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def show(self, content: str) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(content + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "shown\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "board"


@pytest.fixture
def writer(path: Path) -> Iterator[Writer]:
    writer = Writer(path)
    yield writer
    writer.kill()


def test_each_process_sees_what_all_show(path: Path, writer: Writer) -> None:
    board = Board(path)
    board.publish(b"mine")
    writer.show("theirs")
    assert sorted(board.read()) == [b"mine", b"theirs"]
    board.publish(b"mine, later")
    writer.show("theirs, later")
    assert sorted(board.read()) == [b"mine, later", b"theirs, later"]


def test_the_slot_of_a_killed_process_is_forgotten_and_used_again(
    path: Path, writer: Writer
) -> None:
    board = Board(path)
    writer.show("theirs")
    writer.kill()
    assert list(board.read()) == []
    # Whoever looks for a slot from the dead one's place on takes it.
    board._slot = None
    dead = writer.process.pid % SLOTS
    assert board._owner(dead) == 0


def test_who_withdraws_is_seen_no_more(path: Path) -> None:
    board = Board(path)
    board.publish(b"mine")
    board.withdraw()
    assert list(board.read()) == []


def test_of_a_torn_slot_nothing_is_read(path: Path) -> None:
    board = Board(path)
    board.publish(b"whole")
    offset = (os.getpid() % SLOTS) * SLOT_BYTES
    raw = bytearray(path.read_bytes())
    begin = raw.index(b"whole", offset)
    raw[begin : begin + 5] = b"torn!"
    path.write_bytes(raw)
    assert list(board.read()) == []


def test_a_reader_never_sees_a_mixture_of_two_writings(path: Path) -> None:
    repeat = CAPACITY // 2
    writer = Writer(path, repeat)
    board = Board(path)
    try:
        for number in range(200):
            letter = "ab"[number % 2]
            assert writer.process.stdin
            writer.process.stdin.write(letter + "\n")
            writer.process.stdin.flush()
            for content in board.read():
                assert content in (b"a" * repeat, b"b" * repeat)
    finally:
        writer.kill()


def test_two_processes_that_took_one_slot_end_up_in_two(path: Path, writer: Writer) -> None:
    board = Board(path)
    writer.show("theirs")
    board._slot = writer.process.pid % SLOTS  # as if both had found it free at once
    board.publish(b"mine")
    assert sorted(board.read()) == [b"mine", b"theirs"]


def test_more_than_a_slot_holds_is_refused(path: Path) -> None:
    board = Board(path)
    board.publish(b"x" * CAPACITY)
    with pytest.raises(ValueError, match="don't fit"):
        board.publish(b"x" * (CAPACITY + 1))


def test_a_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "8000"
    prepare_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_link_in_the_boards_place_is_not_followed(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    path.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        Board(path)
    assert victim.read_text() == "untouched"
