"""A received body is what was sent, and holds no more memory than it says."""

from __future__ import annotations

import sys

import pytest

from portfolio.server.request_body import ReceivedBody


@pytest.mark.parametrize("sizes", [[], [1], [1] * 50, [8192] * 3, [5, 8192, 5, 20_000, 1]])
@pytest.mark.parametrize("read", [1, 7, 1024, 65_536, -1])
def test_what_arrives_is_read(sizes: list[int], read: int) -> None:
    body = ReceivedBody()
    sent = b""
    for number, size in enumerate(sizes):
        piece = bytes([number % 256]) * size
        body.append(piece)
        sent += piece
    assert body.size == len(sent)
    received = b""
    while part := body.read(read):
        received += part
    assert received == sent


def test_small_pieces_take_little_more_than_their_bytes() -> None:
    body = ReceivedBody()
    for _ in range(1000):
        body.append(b"x")
    assert body.size == 1000
    assert body.memory < 1000 + 500 + sys.getsizeof(bytearray())
