"""Requests before the application: heads checked, bodies received in bounded time and memory."""

from __future__ import annotations

import io
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from gunicorn.http import errors
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from portfolio.api.flask_app import MAX_BODY_BYTES
from portfolio.errors import Overloaded
from portfolio.scheduling import yield_to_hub
from portfolio.server.client_socket import IO_TIMEOUT_S, AllowanceExceeded, ClientSocket

# The most bytes of a head, all lines together.
MAX_HEAD_BYTES = 16 * 1024
# The most memory that the request bodies of a worker may hold, beyond the first bytes of each; with
# those, of a thousand connections, an eighth of a pod's memory.
_MAX_MEMORY_BYTES = 24 * 1024 * 1024
# A body up to this size always has room, so that large bodies cannot keep small ones out.
_UNCOUNTED_BYTES = 8 * 1024
_PIECE_BYTES = 8 * 1024
# Bytes allowed for a piece of a chunked body: chunks have size lines, and a body has trailers.
_CHUNKED_ALLOWANCE_BYTES = 4 * _PIECE_BYTES

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def check_head(request: Any) -> int | None:
    """Check what Gunicorn's parser does not; section 6 of the contract.

    A connection that the client wants closed is marked as such.

    Returns:
        the length of the body of ``request`` in bytes; None if it is chunked.

    Raises:
        ObsoleteFolding: a header is folded.
        UnsupportedTransferCoding: the transfer coding is not ``chunked``.
        InvalidHeader: it has no ``Host`` though it is HTTP/1.1.
    """
    length = 0
    coding = None
    has_host = request.version < (1, 1)
    for name, value in request.headers:
        if not name:
            # The C parser reads a folded line as a header without a name; a proxy may read it as
            # part of the previous one.
            raise errors.ObsoleteFolding("")
        if name == "HOST":
            has_host = True
        elif name == "CONNECTION":
            # Gunicorn knows it as the only option of the first header.
            request.must_close |= "close" in map(str.strip, value.lower().split(","))
        elif name == "CONTENT-LENGTH":
            length = int(value)
        elif name == "TRANSFER-ENCODING":
            coding = value if coding is None else f"{coding}, {value}"
    if coding is not None and coding.lower() != "chunked":
        raise errors.UnsupportedTransferCoding(coding)
    if not has_host:
        raise errors.InvalidHeader("HOST is missing")
    return length if coding is None else None


class RequestBody(io.RawIOBase):
    """The body of one request, received before the application reads it, and freed as it does.

    Attributes:
        memory_used: bytes that the bodies of all requests of this process hold.
        error: makes what reading raises if the body was too large, too slow or too much for the
            worker; None if all of it was received. An exception would keep its traceback, and with
            it the body, in a cycle.
    """

    memory_used = 0

    def __init__(self) -> None:
        super().__init__()
        self._counted = 0
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self.error: Callable[[], Exception] | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Move bytes into ``buffer``; return how many."""
        if self.error is not None:
            raise self.error()
        if not self._pieces:
            return 0
        piece = self._pieces.popleft()
        count = min(len(buffer), len(piece))
        buffer[:count] = piece[:count]
        if count < len(piece):
            self._pieces.appendleft(piece[count:])
        return count

    def receive(self, request: Any, length: int | None, socket: ClientSocket) -> None:
        """Receive the body of ``request``, Gunicorn's, and put itself into its place.

        ``length`` is what ``check_head`` has returned.

        Raises:
            NoMoreData: the client left midway.
        """
        expects_continue = request._expected_100_continue
        request._expected_100_continue = False
        source, request.body = request.body, self
        if length is not None and length > MAX_BODY_BYTES:
            # Nobody is asked to continue with a body that will not be read.
            self.error = RequestEntityTooLarge
            return
        if expects_continue:
            socket.sendall(_CONTINUE)
        socket.deadline = time.monotonic() + IO_TIMEOUT_S
        socket.stalled_since = time.monotonic()
        try:
            if length is None:
                self._receive_chunks(source, socket)
            else:
                self._receive_length(request.unreader, length, socket)
        except TimeoutError:
            self.error = RequestTimeout
        except AllowanceExceeded:
            self.error = RequestEntityTooLarge
        finally:
            socket.stalled_since = None

    def release(self) -> None:
        """Free the body, and count its memory no more."""
        self._pieces.clear()
        RequestBody.memory_used -= self._counted
        self._counted = 0

    def _receive_length(self, unreader: Any, length: int, socket: ClientSocket) -> None:
        """Receive ``length`` bytes past Gunicorn's reader, which would keep some of its own."""
        data: bytes = unreader.take_buffered()
        if len(data) > length:
            unreader.unread(data[length:])
            data = data[:length]
        socket.allowance = length
        self._append(data)
        while (missing := length - self._size) and self._has_room(0):
            data = socket.recv(missing)
            if not data:
                raise errors.NoMoreData
            self._append(data)

    def _receive_chunks(self, source: Any, socket: ClientSocket) -> None:
        while True:
            socket.allowance = _CHUNKED_ALLOWANCE_BYTES
            data = source.read(_PIECE_BYTES)
            self._append(data)
            if self._size > MAX_BODY_BYTES:
                raise AllowanceExceeded
            if len(data) < _PIECE_BYTES or not self._has_room(_CHUNKED_ALLOWANCE_BYTES):
                return
            yield_to_hub()  # decoding small chunks takes long

    def _append(self, data: bytes) -> None:
        self._size += len(data)
        if self._pieces and len(self._pieces[-1]) + len(data) <= _PIECE_BYTES:
            # An object each would take more memory than the content of small pieces.
            data = self._pieces.pop() + data
        self._pieces.append(data)

    def _has_room(self, parser_bytes: int) -> bool:
        """Return whether the body may go on arriving; if not, it fails as overloaded.

        Counts what it holds by now, and ``parser_bytes`` that Gunicorn's parser may hold.
        """
        counted = max(self._size + parser_bytes - _UNCOUNTED_BYTES, 0)
        RequestBody.memory_used += counted - self._counted
        self._counted = counted
        if counted == 0 or RequestBody.memory_used <= _MAX_MEMORY_BYTES:
            return True
        self.error = partial(Overloaded, "Service Unavailable")
        return False
