"""What only real processes and sockets show: the service under Gunicorn."""

from __future__ import annotations

import json
import os
import re
import select
import socket
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPResponse
from pathlib import Path
from select import EPOLLIN, epoll
from typing import Any, NamedTuple

import psutil
import pytest
import requests

from portfolio.devserver.mongod import Mongod
from portfolio.devserver.processes import free_port
from tests.server.clients import connect, connections
from tests.support.calls import V1, V2, one
from tests.support.gunicorn import ROOT, Gunicorn, running, wait_until

MIB = 1 << 20
LISTED = 50_000


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, replica_set: Mongod) -> Iterator[Gunicorn]:
    """The service as ``gunicorn`` alone starts it: two workers."""
    folder = tmp_path_factory.mktemp("service")
    environment = {"MONGODB_DB": "gunicorn", "LOG_LEVEL": "DEBUG"}
    with running(folder, replica_set.uri, **environment) as gunicorn:
        yield gunicorn
    with replica_set.client() as client:
        client.drop_database("gunicorn")


def receive(connection: socket.socket) -> HTTPResponse:
    """Receive the head of a response."""
    response = HTTPResponse(connection)
    response.begin()
    return response


def receive_code(connection: socket.socket) -> tuple[int, str]:
    """Receive an error and return its status and its code."""
    response = receive(connection)
    return response.status, json.loads(response.read())["code"]


# Start


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("LOG_LEVEL", "LOUD", "DEBUG"),
        ("MONGODB_URI", "http://app:hunter2@db", "mongodb://"),
    ],
)
def test_a_value_that_does_not_parse_stops_the_start(
    variable: str, value: str, allowed: str
) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "gunicorn"],
        cwd=ROOT,
        env={"PORT": str(free_port()), variable: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = finished.stdout + finished.stderr
    assert finished.returncode != 0
    assert re.fullmatch(f"Error: {variable}=.*\n", said)  # one line, no traceback
    assert allowed in said
    assert "hunter2" not in said


def test_a_command_tells_a_value_that_does_not_parse_in_one_line() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "flask", "db", "ping"],
        cwd=ROOT,
        env={"LOG_LEVEL": "LOUD"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode != 0
    assert re.fullmatch("Error: LOG_LEVEL='LOUD' is not valid: .*\n", finished.stderr)


def test_it_starts_without_mongodb_and_serves_once_that_appears(
    serve: Callable[..., Gunicorn], tmp_path: Path
) -> None:
    mongod = Mongod(tmp_path / "mongod", port=free_port())
    gunicorn = serve(mongod.uri)
    wait_until(lambda: len(gunicorn.workers()) == 2, "there are two workers")
    workers = gunicorn.workers()
    wait_until(lambda: gunicorn.status(V2) == 503, "the outage is known")
    assert gunicorn.status("/health/live") == 200
    assert gunicorn.status("/health/ready") == 503
    assert gunicorn.status("/health/startup") == 503
    refused = requests.post(gunicorn.url + V1, json={"name": "Growth"}, timeout=10)
    assert (refused.status_code, refused.json()["code"]) == (503, "service_unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    # At once: the deadline of a request is 5 s.
    assert refused.elapsed.total_seconds() < 2

    mongod.start()
    try:
        gunicorn.wait_ready()

        def startup() -> set[int]:
            """Ask often enough to meet both workers."""
            return {gunicorn.status("/health/startup") for _ in range(20)}

        wait_until(lambda: startup() == {200}, "both workers have started")

        def created() -> bool:
            response = requests.post(gunicorn.url + V1, json={"name": "Growth"}, timeout=10)
            return response.status_code == 201

        wait_until(created, "a portfolio is created")
        assert gunicorn.workers() == workers, "no worker had to be replaced"
        mongod.stop()
        wait_until(lambda: gunicorn.status("/health/ready") == 503, "the outage is known")
        assert startup() == {200}
    finally:
        gunicorn.kill()
        mongod.stop()


def test_it_runs_on_mongomock_where_there_is_no_mongodb(serve: Callable[..., Gunicorn]) -> None:
    gunicorn = serve("mongomock://localhost", WEB_CONCURRENCY="1")
    gunicorn.wait_ready()
    created = requests.post(gunicorn.url + V1, json={"name": "Growth"}, timeout=10).json()
    assert requests.get(gunicorn.url + one(created["portfolioId"]), timeout=10).json() == created
    page = requests.get(gunicorn.url + V2 + "?name_like=grow", timeout=10).json()
    assert page["portfolios"] == [created]


# Requests that are refused


def test_a_declared_body_of_more_than_a_mebibyte_is_refused_before_it_is_sent(
    service: Gunicorn,
) -> None:
    with closing(connect(service)) as connection:
        connection.sendall(
            f"POST {V1} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
            f"Content-Length: {100 * MIB}\r\n\r\n".encode()
        )
        assert receive_code(connection) == (413, "payload_too_large")


def test_a_chunked_body_of_more_than_a_mebibyte_is_refused_before_it_ends(
    service: Gunicorn,
) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    sent = 0
    with closing(connect(service)) as connection:
        connection.sendall(
            f"POST {V1} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        while not select.select([connection], [], [], 0)[0]:
            assert sent < 256 * MIB, "nobody minds a body without an end"
            connection.sendall(chunk)
            sent += len(chunk)
        assert receive_code(connection) == (413, "payload_too_large")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: test\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: test\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: test\r\nContent-Length: many\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: test\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"X-Many: 1\r\n" * 100 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 10_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: test\r\n" + b"X: %b\r\n" % (b"x" * 5000) * 4 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else None,
)
def test_what_is_no_http_gets_json_too(service: Gunicorn, request_: bytes, status: int) -> None:
    with closing(connect(service)) as connection:
        connection.sendall(request_)
        response = receive(connection)
        body = json.loads(response.read())
    assert (response.status, body["code"], body.keys()) == (
        status,
        "bad_request",
        {"detail", "code"},
    )
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Request-ID"]
    assert service.status("/health") == 200


@pytest.mark.parametrize("options", ["TE, close", "Close , TE", "te\r\nConnection: close"])
def test_a_client_may_close_the_connection_beside_other_options(
    service: Gunicorn, options: str
) -> None:
    with closing(connect(service)) as connection:
        head = f"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: {options}\r\n\r\n"
        connection.sendall(head.encode())
        response = receive(connection)
        assert response.headers["Connection"] == "close"
        response.read()
        assert connection.recv(1) == b""


def test_no_version_of_any_software_is_told(service: Gunicorn) -> None:
    for path in ("/", V2, "/nowhere"):
        headers = requests.get(service.url + path, timeout=10).headers
        assert not re.search(r"\d", headers.get("Server", ""))
        assert "X-Powered-By" not in headers


def test_a_refused_head_request_is_no_warning(service: Gunicorn) -> None:
    answer = requests.head(f"{service.url}//nowhere", timeout=10)
    assert (answer.status_code, answer.content) == (404, b"")

    def logged() -> list[dict[str, Any]]:
        request_id = answer.headers["X-Request-ID"]
        return [line for line in service.log_lines() if line["request_id"] == request_id]

    wait_until(logged, "the request is logged")
    assert [line["msg"] for line in logged()] == ["request"]


# Fairness


def test_a_connection_that_never_waits_leaves_others_their_turn(
    serve: Callable[..., Gunicorn], replica_set: Mongod
) -> None:
    gunicorn = serve(replica_set.uri, WEB_CONCURRENCY="1", LOG_LEVEL="ERROR")
    request = b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n"
    asked = 4000
    answered = 0
    begun = threading.Event()

    def hog(connection: socket.socket) -> None:
        nonlocal answered
        tail = b""
        while answered < asked:
            received = connection.recv(1 << 20)
            if not received:
                return
            data = tail + received
            answered += data.count(b"HTTP/1.1 200")
            tail = data[-11:]
            begun.set()

    with closing(connect(gunicorn)) as greedy, closing(connect(gunicorn)) as modest:
        reader = threading.Thread(target=hog, args=(greedy,))
        writer = threading.Thread(target=greedy.sendall, args=(request * asked,))
        reader.start()
        writer.start()
        assert begun.wait(10)
        before = answered
        modest.sendall(request)
        assert receive(modest).status == 200
        meanwhile = answered - before
        writer.join(60)
        reader.join(60)
    assert answered == asked
    assert meanwhile < asked / 2


# The list of all


class Listing(NamedTuple):
    """A service with one worker, and how many portfolios it lists."""

    gunicorn: Gunicorn
    worker: psutil.Process
    mongod: Mongod

    @property
    def memory(self) -> int:
        """Bytes that the worker holds in memory."""
        return int(self.worker.memory_info().rss)

    def open_cursors(self) -> int:
        """Return how many cursors MongoDB holds open."""
        with self.mongod.client() as client:
            status: dict[str, Any] = client.admin.command("serverStatus")
        return int(status["metrics"]["cursor"]["open"]["total"])


@pytest.fixture(scope="module")
def listing(tmp_path_factory: pytest.TempPathFactory, replica_set: Mongod) -> Iterator[Listing]:
    """A service whose database holds 50,000 portfolios."""
    with replica_set.client() as client:
        collection = client["listing"]["portfolio"]
        for begin in range(0, LISTED, 10_000):
            collection.insert_many(
                {"name": f"Portfolio {begin + number}", "version": 1} for number in range(10_000)
            )
        environment = {"MONGODB_DB": "listing", "WEB_CONCURRENCY": "1", "LOG_LEVEL": "INFO"}
        folder = tmp_path_factory.mktemp("listing")
        with running(folder, replica_set.uri, **environment) as gunicorn:
            (worker,) = gunicorn.workers()
            yield Listing(gunicorn, worker, replica_set)
        client.drop_database("listing")


def test_a_long_list_is_streamed_in_bounded_memory(listing: Listing) -> None:
    before = listing.memory
    highest = before
    count = 0
    tail = b""
    with requests.get(listing.gunicorn.url + V1, stream=True, timeout=30) as response:
        assert response.status_code == 200
        assert "Content-Length" not in response.headers
        for number, part in enumerate(response.iter_content(65536)):
            data = tail + part
            count += data.count(b'"portfolioId"')
            tail = data[-12:]
            if number % 10 == 0:
                highest = max(highest, listing.memory)
    assert tail.endswith(b"}]")
    assert count == LISTED
    assert max(highest, listing.memory) - before < 10 * MIB


def test_many_lists_keep_others_waiting_no_longer_than_a_few_do(listing: Listing) -> None:
    total = 0
    meanwhile = []
    with connections(listing.gunicorn, 40) as readers, epoll() as poll:

        def read() -> int:
            """Read from one list what has come of it, if anything has."""
            nonlocal total
            size = sum(len(os.read(reader, 1 << 16)) for reader, _ in poll.poll(0.001, 1))
            total += size
            return size

        for reader in readers:
            reader.sendall(f"GET {V1} HTTP/1.0\r\n\r\n".encode())
            poll.register(reader, EPOLLIN)
        wait_until(read, "the lists have begun")
        for _ in range(15):
            while read():
                pass
            before = total
            with closing(connect(listing.gunicorn)) as probe:
                probe.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
                # Looking here first, a test that gets no CPU counts too little and never too much.
                while not select.select([probe], [], [], 0)[0]:
                    read()
                assert receive(probe).status == 200
            meanwhile.append(total - before)
    assert total < 40 * LISTED * 100, "the lists were over before the last probe"
    # It waits for some batches of a tenth of a mebibyte; if each list sent one in each turn, for
    # dozens.
    assert statistics.median(meanwhile) < MIB, meanwhile


def test_clients_that_leave_midway_cost_nothing_more(listing: Listing) -> None:
    cursors = listing.open_cursors()
    before = listing.memory
    for _ in range(10):
        with closing(connect(listing.gunicorn)) as connection:
            connection.sendall(f"GET {V1} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
            assert connection.recv(4096)
    wait_until(lambda: listing.open_cursors() <= cursors, "their cursors are closed")
    assert listing.memory - before < 20 * MIB
    wait_until(lambda: listing.gunicorn.status(V2) == 200, "others are served")
    lines = listing.gunicorn.log_lines()
    assert not [line for line in lines if line["level"] == "ERROR"]


# Logs


def test_a_request_is_logged_by_its_worker_without_its_content(service: Gunicorn) -> None:
    headers = {"X-Request-ID": "find-me"}
    body = {"name": "Not for the log"}
    url = f"{service.url}{V1}?secret=hidden"
    assert requests.post(url, json=body, headers=headers, timeout=10).status_code == 201

    def logged() -> list[dict[str, Any]]:
        return [line for line in service.log_lines() if line["request_id"] == "find-me"]

    (line,) = wait_until(logged, "the request is logged")
    assert line["pid"] in {worker.pid for worker in service.workers()}
    assert line["status"] == 201
    text = service.log.read_text()
    assert "Not for the log" not in text
    assert "hidden" not in text


def test_the_password_of_the_uri_is_not_logged(serve: Callable[..., Gunicorn]) -> None:
    gunicorn = serve("mongodb://app:hunter2@127.0.0.1:1", LOG_LEVEL="DEBUG")
    wait_until(lambda: gunicorn.status(V2) == 503, "the outage is known")
    wait_until(
        lambda: [line for line in gunicorn.log_lines() if line["level"] == "ERROR"],
        "the outage is logged",
    )
    assert gunicorn.status("/health/detailed") == 503
    assert "hunter2" not in gunicorn.log.read_text()
    shown = requests.get(gunicorn.url + "/health/detailed", timeout=10).text
    assert "hunter2" not in shown
