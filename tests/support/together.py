"""Requests that come to a worker together."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from http.client import HTTPResponse
from typing import Any, NamedTuple

from tests.support.gunicorn import Gunicorn

_TIMEOUT_S = 20.0
_WARM_UP = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Answer(NamedTuple):
    """The status and the parsed body of a response."""

    status: int
    body: Any


def get(path: str) -> bytes:
    """Return a GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(path: str, body: Any) -> bytes:
    """Return a POST request with a JSON body."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def send_together(gunicorn: Gunicorn, requests: Sequence[bytes]) -> list[Answer]:
    """Send requests, each on a connection of its own, and return their answers in order.

    The worker, of which there must be one, is stopped while they are sent: it finds all at once.
    """
    [worker] = gunicorn.workers()
    with ExitStack() as stack:
        connections = []
        for _ in requests:
            connection = socket.create_connection(("127.0.0.1", gunicorn.port), _TIMEOUT_S)
            connections.append(stack.enter_context(connection))
            connection.sendall(_WARM_UP)
            assert _receive(connection).status == 200
        worker.send_signal(signal.SIGSTOP)
        try:
            for connection, request in zip(connections, requests, strict=True):
                connection.sendall(request)
        finally:
            worker.send_signal(signal.SIGCONT)
        return [_receive(connection) for connection in connections]


def _receive(connection: socket.socket) -> Answer:
    response = HTTPResponse(connection)
    response.begin()
    return Answer(response.status, json.loads(response.read()))
