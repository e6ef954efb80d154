"""Answers are compressed where it pays and where the client can read it, and nowhere else."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest
from flask import Response
from flask.testing import FlaskClient

from portfolio.api.flask_app import Application
from portfolio.middleware.compression import MIN_BYTES

LONG = b'{"name": "Growth Fund"}, ' * 200
SHORT = b"x" * (MIN_BYTES - 1)


class Chunks:
    """A streamed answer that tells whether it was closed."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.chunks)

    def close(self) -> None:
        self.closed = True


STREAMS = {"long": Chunks(LONG, b"", LONG, b"end"), "short": Chunks(b"[", b"]"), "empty": Chunks()}


@pytest.fixture
def client() -> FlaskClient:
    app = Application("compression")

    @app.get("/long")
    def long() -> Response:
        return Response(LONG, mimetype="application/json", headers={"ETag": '"tag"'})

    @app.get("/short")
    def short() -> Response:
        return Response(SHORT, mimetype="application/json")

    @app.get("/picture")
    def picture() -> Response:
        return Response(LONG, mimetype="image/png")

    @app.get("/packed")
    def packed() -> Response:
        headers = {"Content-Encoding": "gzip"}
        return Response(gzip.compress(LONG * 99), mimetype="text/css", headers=headers)

    @app.get("/stream/<name>")
    def stream(name: str) -> Response:
        STREAMS[name].closed = False
        return Response(STREAMS[name], mimetype="application/json")

    return app.test_client()


def get(client: FlaskClient, path: str, accepted: str = "gzip") -> Response:
    return client.get(path, headers={"Accept-Encoding": accepted} if accepted else {})


def test_a_long_answer_is_compressed(client: FlaskClient) -> None:
    answer = get(client, "/long")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(answer.data) == LONG
    assert len(answer.data) < len(LONG) / 10


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("", None),
        ("identity", None),
        ("deflate", None),
        ("gzip;q=0", None),
        ("*;q=0", None),
        ("GZIP", "gzip"),
        ("*", "gzip"),
        ("br", None),
        ("gzip, deflate, br, zstd", "gzip"),
        ("br;q=0.1, gzip;q=0.9", "gzip"),
        ("br;q=0, *", "gzip"),
        ("gzip;q=nonsense", None),
    ],
)
def test_the_client_chooses(client: FlaskClient, accepted: str, encoding: str | None) -> None:
    answer = get(client, "/long", accepted)
    assert answer.headers.get("Content-Encoding") == encoding
    if encoding is None:
        assert answer.data == LONG


@pytest.mark.parametrize("path", ["/short", "/picture", "/stream/short", "/stream/empty"])
def test_what_does_not_pay_is_left_as_it_is(client: FlaskClient, path: str) -> None:
    compressed, plain = get(client, path), get(client, path, "")
    assert "Content-Encoding" not in compressed.headers
    assert compressed.data == plain.data
    assert compressed.headers.get("Content-Length") == plain.headers.get("Content-Length")


def test_what_is_compressed_already_is_not_compressed_again(client: FlaskClient) -> None:
    assert gzip.decompress(get(client, "/packed").data) == LONG * 99


def test_a_stream_is_compressed_as_it_comes(client: FlaskClient) -> None:
    answer = get(client, "/stream/long")
    assert "Content-Length" not in answer.headers
    assert gzip.decompress(answer.data) == LONG + LONG + b"end"


@pytest.mark.parametrize("name", ["long", "short"])
def test_a_stream_is_closed_whether_it_was_read_or_not(client: FlaskClient, name: str) -> None:
    answer = client.get(f"/stream/{name}", headers={"Accept-Encoding": "gzip"}, buffered=False)
    answer.close()
    assert STREAMS[name].closed


def test_a_compressed_answer_has_a_weak_tag(client: FlaskClient) -> None:
    assert get(client, "/long").headers["ETag"] == 'W/"tag"'
    assert get(client, "/long", "").headers["ETag"] == '"tag"'


def test_head_tells_the_length_without_compression(client: FlaskClient) -> None:
    answer = client.head("/long", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Length"] == str(len(LONG))
