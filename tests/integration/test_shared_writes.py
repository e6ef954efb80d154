"""Creations that come together share one acknowledged write, and nothing else.

One worker of a real Gunicorn is stopped while the requests come in, so that it finds all at once.
"""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from typing import Any

import pytest
from pymongo.collection import Collection

from portfolio.devserver.mongod import Mongod
from tests.support.calls import V1, V2
from tests.support.gunicorn import Gunicorn

Documents = Collection[dict[str, Any]]
Send = Callable[[str, list[Any]], list[int]]

NAMES = [f"Fund {number}" for number in range(8)]
SINGLES = [{"name": name} for name in NAMES]
BULKS = [[{"name": name}, {"name": f"{name} B"}] for name in NAMES]
BODIES = pytest.mark.parametrize(("path", "bodies"), [(V1, SINGLES), (V2, BULKS)])
COMMANDS = {V1: "insert", V2: "commitTransaction"}


@pytest.fixture
def gunicorn(serve: Callable[..., Gunicorn], mongod: Mongod, collection: Documents) -> Gunicorn:
    """A Gunicorn with one worker on the database of ``collection``."""
    gunicorn = serve(mongod.uri, MONGODB_DB=collection.database.name, WEB_CONCURRENCY="1")
    gunicorn.wait_ready()
    return gunicorn


@pytest.fixture
def send(gunicorn: Gunicorn) -> Iterator[Send]:
    """Send POSTs that come together, each on its own connection: ``send(path, bodies)``."""
    with ExitStack() as stack:

        def connect() -> socket.socket:
            connection = socket.create_connection(("127.0.0.1", gunicorn.port), timeout=20)
            stack.enter_context(connection)
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert _status(connection) == 200
            return connection

        def send(path: str, bodies: list[Any]) -> list[int]:
            connections = [connect() for _ in bodies]
            [worker] = gunicorn.workers()
            worker.send_signal(signal.SIGSTOP)
            try:
                for connection, body in zip(connections, bodies, strict=True):
                    connection.sendall(_post(path, body))
            finally:
                worker.send_signal(signal.SIGCONT)
            return [_status(connection) for connection in connections]

        yield send


@pytest.fixture
def refuse_last_name(collection: Documents) -> Iterator[None]:
    """Let MongoDB refuse documents with the last of ``NAMES``."""
    database = collection.database
    validator = {"name": {"$ne": NAMES[-1]}}
    database.command("collMod", collection.name, validator=validator)
    yield
    database.command("collMod", collection.name, validator={})


def _post(path: str, body: Any) -> bytes:
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def _status(connection: socket.socket) -> int:
    response = HTTPResponse(connection)
    response.begin()
    response.read()
    return response.status


def _stored(collection: Documents) -> list[str]:
    return sorted(each["name"] for each in collection.find())


def _expected(bodies: list[Any]) -> list[str]:
    return sorted(
        each["name"] for body in bodies for each in (body if isinstance(body, list) else [body])
    )


@BODIES
def test_creations_that_come_together_share_writes(
    send: Send, mongod: Mongod, collection: Documents, path: str, bodies: list[Any]
) -> None:
    def inserts() -> int:
        with mongod.client() as client:
            commands = client.admin.command("serverStatus")["metrics"]["commands"]
            return int(commands["insert"]["total"])

    before = inserts()
    assert send(path, bodies) == [201] * len(bodies)
    assert inserts() - before < len(bodies)
    assert _stored(collection) == _expected(bodies)


@BODIES
@pytest.mark.usefixtures("refuse_last_name")
def test_a_creation_that_mongodb_refuses_fails_alone(
    send: Send, collection: Documents, path: str, bodies: list[Any]
) -> None:
    assert send(path, bodies) == [201] * (len(bodies) - 1) + [500]
    assert _stored(collection) == _expected(bodies[:-1])


@BODIES
def test_creations_whose_shared_write_was_not_acknowledged_are_stored_once(
    send: Send,
    collection: Documents,
    fail: Callable[..., None],
    path: str,
    bodies: list[Any],
) -> None:
    fail([COMMANDS[path]], 1, writeConcernError={"code": 64, "errmsg": "waiting timed out"})
    assert send(path, bodies) == [201] * len(bodies)
    assert _stored(collection) == _expected(bodies)


@BODIES
def test_a_shared_write_that_fails_is_tried_again_for_each_creation(
    send: Send,
    collection: Documents,
    fail: Callable[..., None],
    path: str,
    bodies: list[Any],
) -> None:
    fail(["insert"], 1, errorCode=8000)  # AtlasError: not an outage, so that it is not retried
    statuses = send(path, bodies)
    assert statuses.count(201) >= len(bodies) - 1
    assert set(statuses) <= {201, 500}
    assert len(_stored(collection)) == statuses.count(201) * len(_expected(bodies)) // len(bodies)
