"""Clients by the hundred, on bare sockets, that do what no library does."""

from __future__ import annotations

import re
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from select import EPOLLIN, epoll

from tests.support.gunicorn import Gunicorn

TIMEOUT_S = 15.0


@contextmanager
def connections(service: Gunicorn, count: int) -> Iterator[list[socket.socket]]:
    """Hold ``count`` connections open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as held:
        yield [held.enter_context(closing(connect(service))) for _ in range(count)]


def connect(service: Gunicorn) -> socket.socket:
    """Open a connection."""
    return socket.create_connection(("127.0.0.1", service.port), timeout=TIMEOUT_S)


def send(clients: list[socket.socket], data: bytes) -> None:
    """Send ``data`` on each of ``clients`` that the service has not closed yet."""
    for client in clients:
        with suppress(OSError):
            client.sendall(data)


def wait_readable(clients: list[socket.socket], timeout_s: float = TIMEOUT_S) -> None:
    """Wait until something has come in on one of ``clients``, be it the end."""
    with epoll() as poll:
        for client in clients:
            poll.register(client, EPOLLIN)
        assert poll.poll(timeout_s), f"nothing came within {timeout_s} s"


def outcomes(clients: list[socket.socket], timeout_s: float = TIMEOUT_S) -> list[str]:
    """Return what each of ``clients`` got.

    That is the status of a complete response, ``closed`` where the connection ended without a byte,
    ``torn`` where a response is not complete and ``hangs`` where it is not there in time.
    """
    deadline = time.monotonic() + timeout_s
    return [_outcome(client, deadline) for client in clients]


def _outcome(client: socket.socket, deadline: float) -> str:
    received = b""
    while not _is_complete(received):
        client.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = client.recv(65536)
        except TimeoutError:
            return "hangs"
        except OSError:
            data = b""
        if not data:
            return "torn" if received else "closed"
        received += data
    return received.split()[1].decode()


def _is_complete(received: bytes) -> bool:
    head, end, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    return bool(end) and length is not None and len(body) >= int(length[1])
