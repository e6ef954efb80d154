"""A received body is what was sent, and holds no more memory than is counted."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.http.unreader import Unreader

from portfolio.server.request import RequestBody


class Pieces(SimpleNamespace):
    """A socket on which the pieces of a body arrive one by one."""

    def recv(self, size: int) -> bytes:
        piece: bytes = self.pieces.pop(0)
        assert len(piece) <= size
        return bytes(bytearray(piece))  # memory of its own


@contextmanager
def received(pieces: list[bytes]) -> Iterator[RequestBody]:
    request: Any = SimpleNamespace(_expected_100_continue=False, body=None, unreader=Unreader())
    body = RequestBody()
    length = sum(map(len, pieces))
    body.receive(request, length, Pieces(pieces=list(pieces)))  # type: ignore[arg-type]
    assert request.body is body
    assert body.error is None
    try:
        yield body
    finally:
        body.release()


@pytest.mark.parametrize("sizes", [[], [1], [1] * 50, [8192] * 3, [5, 8192, 5, 20_000, 1]])
@pytest.mark.parametrize("read", [1, 7, 1024, 65_536, -1])
def test_what_arrives_is_read(sizes: list[int], read: int) -> None:
    pieces = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    content = b""
    with received(pieces) as body:
        while part := body.read(read):
            content += part
    assert content == b"".join(pieces)


@pytest.fixture
def held() -> Iterator[Callable[[], int]]:
    """Tell how many bytes of memory are held that were not when the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()


def test_small_pieces_take_little_more_than_the_bytes_that_are_counted(
    held: Callable[[], int],
) -> None:
    pieces = [b"x"] * 20_000
    before = held()
    with received(pieces) as body:
        assert held() - before < 30_000
        # The first 8 KiB are not counted, nor is the last piece.
        assert RequestBody.memory_used == 20_000 - 8192 - 1
    assert held() - before < 10_000, "nothing is held once it is released"
    assert (body.readall(), RequestBody.memory_used) == (b"", 0)


def test_what_was_read_takes_no_memory(held: Callable[[], int]) -> None:
    pieces = [b"x" * 8192] * 128
    before = held()
    with received(pieces) as body:
        for _ in range(64):
            body.read(8192)
        assert held() - before < 66 * 8300
