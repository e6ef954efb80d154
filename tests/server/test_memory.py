"""What clients send slowly, or do not read, is held in bounded memory."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest
import requests

from portfolio.devserver.mongod import Mongod
from tests.server.clients import connections, wait_readable
from tests.support.gunicorn import Gunicorn, wait_until
from tests.support.slow import LARGEST_BODY, open_slow_reader

SLOW = pytest.mark.slow
_MIB = 1 << 20
_CLIENTS = 300
# An eighth of a pod's memory, and what it takes to hold 300 connections.
_MAX_GROWTH = 36 * _MIB
_CREATE = b"POST /api/v1/portfolios HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def body() -> Iterator[bytes]:
    """All of a body of one mebibyte but its last byte."""
    yield LARGEST_BODY
    yield b" " * (_MIB - 1)


def small_writes() -> Iterator[bytes]:
    """The same body in segments of 100 bytes."""
    yield LARGEST_BODY
    for _ in range(_MIB // 10000):
        yield b" " * 100


def chunks() -> Iterator[bytes]:
    """A chunked body, up to its last chunk."""
    yield _CREATE + b"Transfer-Encoding: chunked\r\n\r\n"
    for _ in range(15):
        yield b"10000\r\n" + b" " * 0x10000 + b"\r\n"


def trailers() -> Iterator[bytes]:
    """A chunked body of nothing, with trailers that do not end."""
    yield _CREATE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
    for number in range(60):
        yield b"X-%d: " % number + b"x" * 8000 + b"\r\n"


def head() -> Iterator[bytes]:
    """A head that does not end."""
    yield b"GET / HTTP/1.1\r\nHost: x\r\n"
    for number in range(60):
        yield b"X-%d: " % number + b"x" * 8000 + b"\r\n"


@pytest.mark.parametrize(
    "parts",
    [body, head, *(pytest.param(each, marks=SLOW) for each in (small_writes, chunks, trailers))],
)
def test_hundreds_of_slow_requests_stay_within_bounds(
    serve: Callable[..., Gunicorn], replica_set: Mongod, parts: Callable[[], Iterator[bytes]]
) -> None:
    service = serve(replica_set.uri, WEB_CONCURRENCY="1", MONGODB_DB="memory")
    service.wait_ready()
    (worker,) = service.workers()
    before = worker.memory_info().rss
    highest = before
    with connections(service, _CLIENTS) as clients:
        sending = {client: parts() for client in clients}
        for client in clients:
            client.setblocking(False)
        until = time.monotonic() + 5.0
        while sending and time.monotonic() < until:
            for client in list(sending):
                if not send_next(client, sending[client]):
                    del sending[client]
            highest = max(highest, worker.memory_info().rss)
        wait_until(lambda: settled(worker), "the worker has read all of it", 5.0)
        highest = max(highest, worker.memory_info().rss)
        wait_until(lambda: create(service) == 201, "a small body is served", 5.0)
    assert highest - before < _MAX_GROWTH, f"{(highest - before) / _MIB:.1f} MiB"


def test_readers_of_the_list_that_do_not_read_stay_within_bounds(
    serve: Callable[..., Gunicorn], replica_set: Mongod, database_name: str
) -> None:
    with replica_set.client() as client:
        longest = "\N{GRINNING FACE}" * 200
        client[database_name]["portfolio"].insert_many({"name": longest} for _ in range(3000))
    service = serve(replica_set.uri, WEB_CONCURRENCY="1", MONGODB_DB=database_name)
    service.wait_ready()
    (worker,) = service.workers()
    before = worker.memory_info().rss
    highest = before
    with ExitStack() as held:
        for _ in range(40):
            reader = held.enter_context(closing(open_slow_reader(service)))
            wait_readable([reader])
            assert reader.recv(12) == b"HTTP/1.1 200"
            highest = max(highest, worker.memory_info().rss)
        wait_until(lambda: unread_bytes(service) < 4 * _MIB, "the kernel holds little", 5.0)
        # Those that still wait are no hindrance.
        response = requests.get(f"{service.url}/api/v1/portfolios", timeout=10)
        assert len(response.json()) == 3000
    assert highest - before < 60 * _MIB, f"{(highest - before) / _MIB:.1f} MiB"


@pytest.mark.parametrize("ending", ["keep-alive", "close", "half-closed"])
def test_whole_responses_that_clients_do_not_read_stay_within_bounds(
    serve: Callable[..., Gunicorn], replica_set: Mongod, database_name: str, ending: str
) -> None:
    with replica_set.client() as client:
        client[database_name]["portfolio"].insert_many({"name": f"{i:050}"} for i in range(600))
    service = serve(replica_set.uri, WEB_CONCURRENCY="1", MONGODB_DB=database_name)
    service.wait_ready()
    connection = "close" if ending == "close" else "keep-alive"
    request = (
        f"GET /api/v2/portfolios?limit=1000 HTTP/1.1\r\nHost: x\r\nConnection: {connection}\r\n\r\n"
    ).encode()
    with ExitStack() as held:
        slow = held.enter_context(closing(open_slow_reader(service, request)))
        read = b""
        for _ in range(400):
            reader = held.enter_context(closing(open_slow_reader(service, request)))
            if ending == "half-closed":
                reader.shutdown(socket.SHUT_WR)
            wait_readable([reader])
            read += b"" if read.endswith(b"}}") else slow.recv(400)
        wait_until(lambda: unread_bytes(service) < 14 * _MIB, "the kernel holds little", 5.0)
        # One that reads, however slowly, gets all of it.
        slow.settimeout(5.0)
        while not read.endswith(b"}}"):
            data = slow.recv(65536)
            assert data, f"torn after {len(read)} bytes"
            read += data


def unread_bytes(service: Gunicorn) -> int:
    """Return what the kernel holds of responses, those of closed connections included."""
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    port = f":{service.port:04X}"
    return sum(int(each[4].partition(":")[0], 16) for each in sockets if each[1].endswith(port))


def send_next(client: socket.socket, parts: Iterator[bytes]) -> bool:
    """Send the next part, as much of it as goes; return whether there may be more."""
    data = next(parts, b"")
    if not data:
        return False
    until = time.monotonic() + 0.2
    while data and time.monotonic() < until:
        try:
            data = data[client.send(data) :]
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:
            return False
    return not data


def create(service: Gunicorn) -> int:
    """Create a portfolio; return the status."""
    url = f"{service.url}/api/v1/portfolios"
    return requests.post(url, json={"name": "small"}, timeout=10).status_code


def settled(worker: psutil.Process) -> bool:
    """Whether the worker has little to do."""
    return worker.cpu_percent(interval=0.2) < 20
