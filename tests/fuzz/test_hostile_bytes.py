"""Bytes that are no proper HTTP are refused in JSON, and the connection is closed.

With a 4xx; RFC 9112 asks for 501 where a transfer coding is unknown, and an empty one is.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from portfolio.devserver.mongod import Mongod
from tests.fuzz.contract import fits
from tests.support.gunicorn import Gunicorn, running

_POST = b"POST /api/v1/portfolios HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def gunicorn(replica_set: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    folder = tmp_path_factory.mktemp("bytes")
    with running(folder, replica_set.uri, MONGODB_DB="bytes") as gunicorn:
        yield gunicorn


def exchange(gunicorn: Gunicorn, sent: bytes) -> bytes:
    """Send, end, and return all that comes until the service closes the connection."""
    with socket.create_connection(("127.0.0.1", gunicorn.port), timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"\0\1\2\3\r\n\r\n", 400, id="not-http"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, id="tls"),
        pytest.param(b"GET /\r\n\r\n", 400, id="http-0.9"),
        pytest.param(b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 400, id="unknown-version"),
        pytest.param(b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", 414, id="long-line"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X-A: b\r\n" * 100 + b"\r\n", 431, id="many-headers"),
        pytest.param(b"GET / HTTP/1.1\r\nX-A: " + b"b" * 9000 + b"\r\n\r\n", 431, id="long-header"),
        pytest.param(b"GET / HTTP/1.1\r\nX-A: b\0c\r\n\r\n", 400, id="nul-in-header"),
        pytest.param(b"GET / HTTP/1.1\r\nX A: b\r\n\r\n", 400, id="space-in-header-name"),
        pytest.param(b"GET / HTTP/1.1\r\nX-A: b\r\n c\r\n\r\n", 400, id="folded-header"),
        pytest.param(
            _POST + b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 2\r\n\r\n{}",
            501,
            id="folded-transfer-encoding",
        ),
        *(
            pytest.param(
                _POST + b"Transfer-Encoding: " + coding + b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                501,
                id=f"coding-{coding.decode()}",
            )
            for coding in (
                b"gzip, chunked",
                b"gzip\r\nTransfer-Encoding: chunked",
                b"identity, chunked",
                b"chunked, chunked",
                b"gzip",
                b"identity",
                b"unknown",
                b"xchunked",
            )
        ),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no-host"),
        pytest.param(b"GET http://x/ HTTP/1.1\r\n\r\n", 400, id="no-host-but-in-target"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, id="two-hosts"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: %s\r\n" % (b"b" * 1000) * 20 + b"\r\n",
            431,
            id="long-head",
        ),
        pytest.param(
            _POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1;%s\r\n \r\n" % (b"x" * 90) * 900,
            413,
            id="chunks-of-nothing",
        ),
        pytest.param(
            _POST + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415, id="gzip-body"
        ),
        pytest.param(b"GET api/v1/portfolios HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="no-slash"),
        pytest.param(b"GET //api/v1/portfolios HTTP/1.1\r\nHost: x\r\n\r\n", 404, id="two-slashes"),
        pytest.param(
            b"GET /%2fapi/v1/portfolios HTTP/1.1\r\nHost: x\r\n\r\n", 404, id="encoded-slash"
        ),
        pytest.param(
            b"GET http://x//api/v1/portfolios HTTP/1.1\r\nHost: x\r\n\r\n", 404, id="absolute"
        ),
        pytest.param(_POST + b"Content-Length: -1\r\n\r\n", 400, id="negative-length"),
        pytest.param(_POST + b"Content-Length: 1e3\r\n\r\n", 400, id="length-no-number"),
        pytest.param(
            _POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", 400, id="two-lengths"
        ),
        pytest.param(
            _POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            id="length-and-chunks",
        ),
        pytest.param(
            _POST + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n", 400, id="bad-chunk"
        ),
        pytest.param(_POST + b"Content-Length: 99999999999\r\n\r\n{}", 413, id="huge-length"),
    ],
)
def test_improper_http_is_refused(gunicorn: Gunicorn, sent: bytes, status: int) -> None:
    head, _, body = exchange(gunicorn, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), head
    assert isinstance(json.loads(body)["detail"], str | list)
    assert fits(status, json.loads(body)["code"])
    assert gunicorn.status("/health/live") == 200
    assert [line for line in gunicorn.log_lines() if "exception" in line] == []


def test_an_improper_request_is_not_answered_as_the_one_before_it(gunicorn: Gunicorn) -> None:
    proper = b"HEAD /health/live HTTP/1.1\r\nHost: x\r\nX-Request-ID: first\r\n\r\n"
    received = exchange(gunicorn, proper + b"X / HTTP/1.1\r\nHost: x\r\n\r\n")
    proper_head, improper_head, body = received.split(b"\r\n\r\n")
    assert proper_head.startswith(b"HTTP/1.1 200 ")
    assert b"X-Request-ID: first" in proper_head
    assert improper_head.startswith(b"HTTP/1.1 400 ")
    assert b"X-Request-ID: first" not in improper_head
    assert json.loads(body)["code"] == "bad_request"
