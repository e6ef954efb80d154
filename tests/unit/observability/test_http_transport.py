"""OTLP over plain HTTP: what is sent, and what came of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from portfolio.devserver.processes import free_port
from portfolio.observability.otlp import HTTPTransport, Result
from tests.support.collector import Collector


class Recorder(Collector):
    """A collector that keeps what it is sent."""

    sent: tuple[str, bytes] = ("", b"")
    status = 200

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        self.sent = (path, body)
        return self.status, b"an answer"


@pytest.fixture
def collector() -> Iterator[Recorder]:
    collector = Recorder()
    collector.start_http()
    yield collector
    collector.stop()


def post(address: str, path: str = "/v1/metrics", timeout: float = 5.0) -> Result:
    headers = {"Content-Type": "application/x-protobuf", "X-Key": "secret"}
    url = f"http://{address}{path}"
    return HTTPTransport().request("POST", url, headers=headers, data=b"body", timeout=timeout)


@pytest.mark.parametrize("path", ["/v1/metrics", "/prefix/v1/traces?tenant=a%20b"])
def test_path_headers_and_body_arrive(collector: Recorder, path: str) -> None:
    assert post(collector.address, path).status_code == 200
    assert collector.sent == (path, b"body")
    assert collector.headers[0]["x-key"] == "secret"
    assert collector.headers[0]["host"] == collector.address


def test_a_refusal_keeps_its_status_and_headers(collector: Recorder) -> None:
    collector.status = 503
    result = post(collector.address)
    assert (result.status_code, result.reason) == (503, "Service Unavailable")
    assert result.error is None
    assert result.headers().get("content-TYPE") == "application/x-protobuf"


def test_no_redirect_is_followed(collector: Recorder) -> None:
    collector.status = 307
    assert post(collector.address).status_code == 307
    assert len(collector.headers) == 1


def test_an_absent_collector_is_a_connection_error() -> None:
    result = post(f"127.0.0.1:{free_port()}")
    assert result.status_code is None
    assert HTTPTransport().is_connection_error(result.error)


def test_a_cut_connection_is_a_connection_error(collector: Recorder) -> None:
    collector.status = 0
    result = post(collector.address)
    assert result.status_code is None
    assert HTTPTransport().is_connection_error(result.error)


def test_a_collector_that_hangs_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        result = post(f"127.0.0.1:{listener.getsockname()[1]}", timeout=0.2)
    assert isinstance(result.error, TimeoutError)
