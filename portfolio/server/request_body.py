"""Request bodies: received before the application is called, in bounded time and memory."""

from __future__ import annotations

import io
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from gunicorn.http import errors
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from portfolio.api.responses import MAX_BODY_BYTES
from portfolio.errors import Overloaded
from portfolio.scheduling import yield_to_hub
from portfolio.server.deadline_socket import (
    IO_TIMEOUT_S,
    AllowanceExceeded,
    DeadlineExceeded,
    DeadlineSocket,
)
from portfolio.server.request_head import Framing

# The most memory that the request bodies of a worker may hold, beyond the first bytes of each; with
# those, of a thousand connections, an eighth of a pod's memory.
_MAX_MEMORY_BYTES = 24 * 1024 * 1024
# A body up to this size always has room, so that large bodies cannot keep small ones out.
_UNCOUNTED_BYTES = 8 * 1024
_PIECE_BYTES = 8 * 1024
# Bytes allowed for a piece of a chunked body: chunks have size lines, and a body has trailers.
_CHUNKED_ALLOWANCE_BYTES = 4 * _PIECE_BYTES

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def _no_room() -> Exception:
    return Overloaded("Service Unavailable")


class BodyMemory:
    """The memory that the request bodies of one worker hold."""

    def __init__(self) -> None:
        self.used = 0


class RejectedBody:
    """A body that is not received: reading it raises the error for the client."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        self._error = error

    def read(self, *size: int) -> NoReturn:
        """Raise the error."""
        raise self._error()

    readline = readlines = __iter__ = readinto = read


class ReceivedBody(io.RawIOBase):
    """A body in pieces as they arrived; each is freed as the application reads it.

    Attributes:
        size: bytes received.
        memory: bytes of memory in use.
    """

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self.memory = 0
        self._pieces: deque[bytes | bytearray] = deque()
        self._position = 0

    def append(self, data: bytes) -> None:
        """Append bytes that have arrived."""
        self.size += len(data)
        tail = self._pieces[-1] if self._pieces else None
        if isinstance(tail, bytearray) and len(tail) + len(data) <= _PIECE_BYTES:
            self.memory -= sys.getsizeof(tail)
            tail += data
            self.memory += sys.getsizeof(tail)
        else:
            # Small pieces are joined: an object each would take more memory than its content.
            piece = data if len(data) >= _PIECE_BYTES else bytearray(data)
            self._pieces.append(piece)
            self.memory += sys.getsizeof(piece)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Move bytes into ``buffer``; return how many."""
        filled = 0
        while self._pieces and filled < len(buffer):
            piece = memoryview(self._pieces[0])[self._position :]
            part = piece[: len(buffer) - filled]
            buffer[filled : filled + len(part)] = part
            filled += len(part)
            if len(part) == len(piece):
                self._pieces.popleft()
                self._position = 0
            else:
                self._position += len(part)
        return filled


class BodyReceiver:
    """Receives the body of one request.

    Args:
        socket: the connection's socket.
        memory: the memory of all bodies of the worker.
    """

    def __init__(self, socket: DeadlineSocket, memory: BodyMemory) -> None:
        self._socket = socket
        self._all = memory
        self._counted = 0
        self._body = ReceivedBody()

    def receive(self, request: Any, framing: Framing) -> Callable[[], Exception] | None:
        """Replace ``request.body`` by what was received.

        A body that is too large, too slow or too much for the worker is replaced by one whose
        reading raises the error to answer.

        Args:
            request: Gunicorn's.
            framing: how its body is delimited; there has to be one.

        Returns:
            None where all of the body was read, else what makes the error.

        Raises:
            NoMoreData: the client left midway.
        """
        expects_continue = request._expected_100_continue
        request._expected_100_continue = False
        if framing.length > MAX_BODY_BYTES:
            # Nobody is asked to continue with a body that will not be read.
            error: Callable[[], Exception] | None = RequestEntityTooLarge
        else:
            if expects_continue:
                self._socket.sendall(_CONTINUE)
            error = self._receive(request, framing)
        request.body = self._body if error is None else RejectedBody(error)
        return error

    def release(self) -> None:
        """Count the memory of this body no more."""
        self._all.used -= self._counted
        self._counted = 0

    def _receive(self, request: Any, framing: Framing) -> Callable[[], Exception] | None:
        self._socket.deadline = time.monotonic() + IO_TIMEOUT_S
        try:
            if framing.chunked:
                return self._receive_chunks(request.body)
            return self._receive_length(request.unreader, framing.length)
        except DeadlineExceeded:
            return RequestTimeout
        except AllowanceExceeded:
            return RequestEntityTooLarge

    def _receive_length(self, unreader: Any, length: int) -> Callable[[], Exception] | None:
        """Receive ``length`` bytes past Gunicorn's reader, which would keep some of its own."""
        data: bytes = unreader.take_buffered()
        if len(data) > length:
            unreader.unread(data[length:])
            data = data[:length]
        self._socket.allowance = length
        while True:
            self._body.append(data)
            if self._body.size == length:
                return None
            if not self._has_room(0):
                return _no_room
            data = self._socket.recv(length - self._body.size)
            if not data:
                raise errors.NoMoreData

    def _receive_chunks(self, source: Any) -> Callable[[], Exception] | None:
        while True:
            self._socket.allowance = _CHUNKED_ALLOWANCE_BYTES
            data = source.read(_PIECE_BYTES)
            self._body.append(data)
            if self._body.size > MAX_BODY_BYTES:
                return RequestEntityTooLarge
            if len(data) < _PIECE_BYTES:
                return None
            if not self._has_room(_CHUNKED_ALLOWANCE_BYTES):
                return _no_room
            yield_to_hub()  # decoding small chunks takes long

    def _has_room(self, parser_bytes: int) -> bool:
        """Count what the body holds by now, and ``parser_bytes`` that Gunicorn's parser may hold.

        Returns:
            whether the bodies of this worker may go on arriving.
        """
        counted = max(self._body.memory + parser_bytes - _UNCOUNTED_BYTES, 0)
        self._all.used += counted - self._counted
        self._counted = counted
        return counted == 0 or self._all.used <= _MAX_MEMORY_BYTES
