"""Clients that send a byte a second, or do not read what they are sent."""

from __future__ import annotations

import socket
import threading

from tests.support.gunicorn import Gunicorn

HEADERS = b"GET /api/v1/portfolios HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"s" * 1000
_CREATE = b"POST /api/v1/portfolios HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
BODY = _CREATE + b"Content-Length: 1000\r\n\r\n" + b" " * 1000
# The head alone, of a body of one mebibyte.
LARGEST_BODY = _CREATE + b"Content-Length: 1048576\r\n\r\n"
LIST_ALL = b"GET /api/v1/portfolios HTTP/1.1\r\nHost: x\r\n\r\n"


class SlowSenders:
    """Clients of whom each sends a byte a second until the service gives it up.

    Args:
        service: whom they bother.
        request: what each sends; the head of a request with a body is sent at once.
        count: how many there are.
    """

    def __init__(self, service: Gunicorn, request: bytes, count: int) -> None:
        head, _, body = request.rpartition(b"\r\n\r\n")
        self._rest = body
        self._sockets = [_connect(service) for _ in range(count)]
        for each in self._sockets:
            each.sendall(head + b"\r\n\r\n" if head else b"")
            each.setblocking(False)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drip)

    def __enter__(self) -> SlowSenders:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        for each in self._sockets:
            each.close()

    @property
    def patient(self) -> int:
        """How many the service still listens to."""
        return len(self._sockets)

    def _drip(self) -> None:
        for byte in self._rest:
            given_up = [each for each in self._sockets if not _goes_on(each, byte)]
            for each in given_up:
                each.close()
            self._sockets = [each for each in self._sockets if each not in given_up]
            if self._stop.wait(1.0):
                return


def open_slow_reader(service: Gunicorn, request: bytes = LIST_ALL) -> socket.socket:
    """Send a request and read nothing of its answer; return the connection."""
    connection = _connect(service, receive_buffer=4096)
    connection.sendall(request)
    return connection


def _connect(service: Gunicorn, receive_buffer: int | None = None) -> socket.socket:
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        # As on Ethernet: in segments of the loopback interface the buffer would take far more.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
    connection.connect(("127.0.0.1", service.port))
    return connection


def _goes_on(connection: socket.socket, byte: int) -> bool:
    try:
        connection.send(bytes([byte]))
        connection.recv(1000)  # an answer or the end: the service has given up
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
