"""The Gunicorn worker: gevent's, which also drains, reads bodies in bounded time and speaks JSON.

What Gunicorn's own gevent worker lacks: on SIGTERM it waits for idle keep-alive connections until
the graceful timeout kills them; it answers malformed requests with HTML; it lets a client that
sends a byte a second hold the application.
"""

from __future__ import annotations

import errno
import fcntl
import io
import socket
import struct
import termios
import time
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, Literal, NoReturn
from urllib.parse import unquote

import gevent
import orjson
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn import util
from gunicorn.http import errors, wsgi
from gunicorn.workers.ggevent import GeventWorker
from werkzeug.exceptions import (
    HTTPException,
    RequestEntityTooLarge,
    RequestTimeout,
    ServiceUnavailable,
)
from werkzeug.http import HTTP_STATUS_CODES

from portfolio.components import Components
from portfolio.http.admission import Admission, Place
from portfolio.http.answers import MAX_BODY_BYTES
from portfolio.http.envelope import common_headers, request_id_for

# New connections are still taken this long after the signal: a load balancer needs a moment to
# hear of it, and a connection in the listener's queue is reset when the listener closes.
_LISTEN_ON_S = 1.0
_PAUSE_S = 0.05
# The kernel's clock, by which it tells when a byte came, ticks up to 10 ms apart.
_SLACK_S = 0.05
# In overload: at 300 requests a second in a pod this took p95 of what is served from 12 s to 1.1.
_MOST_TAKEN_AT_ONCE = 64

# The head of a request, once begun, and its body each have this long to arrive, however slowly the
# client sends; a part of an answer has it to leave, however slowly the client reads.
_PATIENCE_S = 10.0
# Most that a worker holds of bodies that are still arriving: an eighth of a pod's memory.
_MAX_ARRIVING_BYTES = 32 * MAX_BODY_BYTES
# A body is counted in such pieces: few fill a second one, and a thousand hold 8 MiB uncounted.
_PIECE_BYTES = 8 * 1024

# Where Linux's struct tcp_info has tcpi_last_data_recv.
_LAST_DATA_RECEIVED = 52
_TCP_INFO_BYTES = 56

_STATUS_OF_FAULT: dict[type[Exception], int] = {
    errors.LimitRequestLine: 414,
    errors.LimitRequestHeaders: 431,
    errors.ExpectationFailed: 417,
    errors.ForbiddenProxyRequest: 403,
    errors.UnsupportedTransferCoding: 501,
    errors.ConfigurationProblem: 500,
    errors.InvalidResponseHeader: 500,
    errors.InvalidResponseHeaderName: 500,
}


class Worker(GeventWorker):  # type: ignore[misc]
    """A gevent worker for the Portfolio Service."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stop = Event()
        self._waiting: dict[Any, _Wait] = {}
        self._clients: dict[Any, Any] = {}
        self._answered: dict[Any, float] = {}
        self._arriving_bytes = 0
        self._drain_until = 0.0

    @property
    def _components(self) -> Components:
        return self.wsgi.extensions["portfolio"]  # type: ignore[no-any-return]

    def run(self) -> None:
        """Serve until told to stop, then drain; Gunicorn calls this once."""
        look_up_once(self.cfg)
        self._admission = self._components.admission
        self._common_headers = common_headers(self._components.settings)
        servers = []
        for listener in self.sockets:
            listener.setblocking(True)
            server = _Server(
                self._admission,
                listener,
                handle=partial(self.handle, listener),
                spawn=Pool(self.worker_connections),
            )
            server.start()
            servers.append(server)
        while self.alive:
            self.notify()
            self._give_up_slow_heads()
            self._stop.wait(1.0)
        self._drain(servers)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection until it ends."""
        greenlet = gevent.getcurrent()
        self._clients[greenlet] = client
        try:
            super().handle(listener, client, addr)
        finally:
            del self._clients[greenlet]
            self._answered.pop(greenlet, None)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to drain, on SIGTERM."""
        self._retire()

    def timeout_ctx(self) -> gevent.Timeout:
        """Bound the wait for a connection's next request, and keep note of who waits."""
        seconds = self.cfg.keepalive
        if not self.alive:
            seconds = max(self._drain_until - time.monotonic(), 0.1)
        return _Wait(self._waiting, seconds)

    def _give_up_slow_heads(self) -> None:
        """Close connections whose client is too long about the head of a request.

        Each could hold one of ``worker_connections`` for the whole keep-alive time, by a byte a
        second or by none. The time of a head begins when this first sees a byte of it: where a
        worker stood still, one may have come a moment ago, on a connection that was long idle.
        """
        now = time.monotonic()
        for greenlet, wait in list(self._waiting.items()):
            if self._has_begun(greenlet, wait):
                wait.head_seen = wait.head_seen or now
            elif greenlet in self._answered:
                continue  # idle: it may be, for the keep-alive time
            if now - (wait.head_seen or wait.begun) >= _PATIENCE_S:
                greenlet.kill(wait, block=False)

    def _has_begun(self, greenlet: Any, wait: _Wait) -> bool:
        """Whether a byte of the request that a connection waits for is there, read or not."""
        client = self._clients[greenlet]
        silent = _seconds_silent(client)
        return _has_unread(client) or (
            silent is not None and silent < time.monotonic() - wait.begun - _SLACK_S
        )

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Answer one request of a connection, unless the worker has too much under way.

        Raises:
            StopIteration: the connection is to be closed.
        """
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("recycling after %s requests", self.nr)
            self._retire()
        unread = not self._receive(req, sock)
        if not unquote(req.path).startswith("/api/"):  # probes are never refused
            self._answer(listener_name, req, sock, addr, unread, None)
        elif place := self._admission.enter(lambda: self._seconds_waited(sock)):
            try:
                self._answer(listener_name, req, sock, addr, unread, place)
            finally:
                place.leave()
        else:
            self._refuse(req, sock, close=unread or not self.alive or req.should_close())
        self._answered[gevent.getcurrent()] = time.monotonic()

    def _seconds_waited(self, sock: Any) -> float:
        """Return how long the request that was just read has waited for this worker.

        One that its client sent ahead has waited for the answer before it, and no longer than that.
        """
        answered = self._answered.get(gevent.getcurrent(), 0.0)
        return min(_seconds_silent(sock) or 0.0, time.monotonic() - answered)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a request that can't be parsed with JSON, as every other error is."""
        status = next(
            (code for kind, code in _STATUS_OF_FAULT.items() if isinstance(exc, kind)),
            400 if isinstance(exc, errors.ParseException) else 500,
        )
        if status == 500:
            self.log.error("connection failed", exc_info=exc)
        else:
            self.log.info("request refused: %s", exc)
        self._components.measures.requests.refuse("", str(status))
        detail = "Internal server error" if status == 500 else HTTP_STATUS_CODES[status]
        try:
            util.write_nonblock(client, self._plain_answer(req, status, detail, close=True))
            util.close_graceful(client)
        except OSError:
            self.log.debug("the client of a refused request is gone")

    def _retire(self) -> None:
        """Stop being ready; from now on every answer closes its connection."""
        components = self._components
        components.draining = True
        self._drain_until = time.monotonic() + components.settings.drain_s
        self.alive = False
        self._stop.set()

    def _drain(self, servers: Sequence[StreamServer]) -> None:
        """Let connections end: with their next answer, or idle at the end of the drain time."""
        begun = time.monotonic()
        kill_at = begun + self.cfg.graceful_timeout
        close_at = min(begun + _LISTEN_ON_S, self._drain_until)
        while time.monotonic() < kill_at:
            now = time.monotonic()
            if now >= close_at:
                for server in servers:
                    server.close()
                close_at = float("inf")
            if now >= self._drain_until:
                for connection, wait in list(self._waiting.items()):
                    if not self._has_begun(connection, wait):
                        connection.kill(wait, block=False)
            if close_at == float("inf") and not any(server.pool for server in servers):
                return
            self.notify()
            gevent.sleep(_PAUSE_S)
        self.log.warning("connections are cut: they did not end within the graceful timeout")
        for server in servers:
            server.stop(timeout=1)

    def _receive(self, req: Any, sock: Any) -> bool:
        """Read the body of a request before the application is asked.

        Whatever its client's pace, the application then never waits for it. A body that is too
        large, too slow or too much is replaced by one whose reading raises the error to answer.

        Returns:
            whether all of it was read.

        Raises:
            StopIteration: the client left midway.
        """
        declared, chunked = _framing(req)
        if not declared and not chunked:
            return True
        if declared > MAX_BODY_BYTES:
            # Nobody is asked to continue with a body that will not be read.
            req._expected_100_continue = False
            return False
        if req._expected_100_continue:
            req._expected_100_continue = False
            _send_all(sock, b"HTTP/1.1 100 Continue\r\n\r\n")
        body = bytearray()
        fault: HTTPException | None = RequestTimeout()
        try:
            with gevent.Timeout(_PATIENCE_S, False):  # type: ignore[arg-type]
                fault = self._take(req.body, body)
        finally:
            self._arriving_bytes -= len(body)
        if fault is not None:
            req.body = _Refusal(fault)
            return False
        if len(body) < declared:
            raise StopIteration
        req.body = io.BytesIO(body)
        return True

    def _take(self, source: Any, body: bytearray) -> HTTPException | None:
        """Add to ``body`` what arrives of it; return what to answer where that may not be."""
        while len(body) <= MAX_BODY_BYTES:
            piece = source.read(_PIECE_BYTES)
            body += piece
            self._arriving_bytes += len(piece)
            if len(piece) < _PIECE_BYTES:
                return None
            if self._arriving_bytes > _MAX_ARRIVING_BYTES:
                return ServiceUnavailable(retry_after=1)
        return RequestEntityTooLarge()

    def _refuse(self, req: Any, sock: Any, *, close: bool) -> None:
        self._components.measures.requests.refuse(req.method, "503")
        detail = "Too many requests are under way"
        _send_all(sock, self._plain_answer(req, 503, detail, close=close))
        self.cfg.post_request(self, req, {}, None)  # yields, as after every other answer
        if close:
            raise StopIteration

    def _plain_answer(self, req: Any, status: int, detail: str, *, close: bool) -> bytes:
        """Return a whole answer that the application is not asked for.

        Args:
            req: the request; None where it could not be parsed.
            status: of the answer.
            detail: the sentence that the client reads.
            close: whether the connection ends with it.
        """
        body = orjson.dumps({"detail": detail})
        given = dict(req.headers) if req is not None else {}
        headers = [
            ("Date", _date(int(time.time()))),
            *self._common_headers,
            ("X-Request-ID", request_id_for(given.get("X-REQUEST-ID", ""))),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close" if close else "keep-alive"),
        ]
        if status == 503:
            headers.append(("Retry-After", "1"))
        if "ORIGIN" in given:
            headers += self._components.origins.headers(req.method, req.headers)
        lines = [f"HTTP/1.1 {status} {HTTP_STATUS_CODES[status]}"]
        lines += [f"{name}: {value}" for name, value in headers]
        head = "\r\n".join([*lines, "", ""]).encode()
        return head if req is not None and req.method == "HEAD" else head + body

    def _answer(
        self,
        listener_name: Any,
        req: Any,
        sock: Any,
        addr: Any,
        unread: bool,
        place: Place | None,
    ) -> None:
        response, environ = wsgi.create(
            req, sock, addr, listener_name, self.cfg, response_class=_Response
        )
        environ["wsgi.multithread"] = True
        if unread or not self.alive or not self.cfg.keepalive:
            response.force_close()
        try:
            self._send(environ, response, place)
        except OSError:
            raise
        except Exception:
            if not response.headers_sent:
                raise
            # The answer is torn already: only closing the connection tells the client so.
            self.log.exception("request failed after its headers were sent")
            raise StopIteration from None
        finally:
            self.cfg.post_request(self, req, environ, response)
        if unread:
            # The client may still be sending: a reset would cost it the answer.
            util.close_graceful(sock, max_drain=16 * MAX_BODY_BYTES)
        if response.should_close():
            raise StopIteration

    def _send(self, environ: dict[str, Any], response: Any, place: Place | None) -> None:
        parts = self.wsgi(environ, response.start_response)
        try:
            for part in parts:
                response.write(part)
                if place is not None and response.chunked:
                    place.leave()  # a stream goes at the pace of its client
            response.close()
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()


def look_up_once(config: Any) -> None:
    """Let the settings of ``config``, Gunicorn's, be plain attributes, which never change again.

    A setting is looked up by two calls, some thirty times a request: that takes 3% of the CPU of
    GET one in a pod.
    """
    config.__dict__.update({name: setting.get() for name, setting in config.settings.items()})


class _Server(StreamServer):
    """Takes new connections: one in a turn, else one worker takes all that queue up.

    In overload a turn is long, and connections would wait in the queue for seconds to be refused.
    """

    def __init__(self, admission: Admission, listener: Any, **options: Any) -> None:
        self._admission = admission
        super().__init__(listener, **options)

    @property
    def max_accept(self) -> int:  # type: ignore[override]
        """How many are taken in one turn of the event loop."""
        return _MOST_TAKEN_AT_ONCE if self._admission.overloaded else 1


class _SlowReaderError(ConnectionResetError):
    """A client did not read its answer; Gunicorn takes it for one that went away."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the client did not read its answer in time")


class _Response(wsgi.Response):  # type: ignore[misc]
    """A response whose headers leave with its body, in one segment instead of two."""

    headers_sent: bool

    def default_headers(self) -> list[str]:
        """Return the status line and the headers of the connection, each with its line end."""
        major, minor = self.req.version
        lines = [
            f"HTTP/{major}.{minor} {self.status}\r\n",
            f"Server: {self.version}\r\n",
            f"Date: {_date(int(time.time()))}\r\n",
            f"Connection: {'close' if self.should_close() else 'keep-alive'}\r\n",
        ]
        if self.chunked:
            lines.append("Transfer-Encoding: chunked\r\n")
        return lines

    def write(self, arg: bytes) -> None:
        """Send the headers, if they are not sent yet, and a part of the body."""
        if self.headers_sent or self.response_length != len(arg) or self._omits_body:
            with gevent.Timeout(_PATIENCE_S, _SlowReaderError()):
                super().write(arg)
            return
        lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers)]
        self.headers_sent = True
        self.sent = len(arg)
        _send_all(self.sock, "".join([*lines, "\r\n"]).encode("latin-1") + arg)


class _Refusal:
    """A body that can't be had: reading it raises the error that the client is answered."""

    def __init__(self, error: HTTPException) -> None:
        self._error = error

    def read(self, *size: int) -> NoReturn:
        raise self._error

    readline = readlines = __iter__ = readinto = read


class _Wait(gevent.Timeout):
    """The wait for a next request; ends silently, by its time or by the drain."""

    def __init__(self, waiting: dict[Any, _Wait], seconds: float) -> None:
        super().__init__(seconds, False)  # type: ignore[arg-type]
        self._all = waiting
        self.begun = time.monotonic()
        self.head_seen = 0.0

    def __enter__(self) -> _Wait:
        self._all[gevent.getcurrent()] = self
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> Literal[True] | None:
        self._all.pop(gevent.getcurrent(), None)
        return super().__exit__(*error)


# All requests may share one; a file object each, with the logger's locks, takes 1.5% of GET one.
wsgi.WSGIErrorsWrapper = lru_cache(maxsize=1)(wsgi.WSGIErrorsWrapper)

# Writing a date takes as long as looking at all the other headers; a second has one.
_date = lru_cache(maxsize=1)(util.http_date)


def _send_all(sock: Any, data: bytes) -> None:
    """Send ``data``, nearly always at once: a client that reads leaves room in the buffer.

    Raises:
        _SlowReaderError: the client did not read in time.
    """
    try:
        sent = sock.send(data, 0, 0.0)
    except BlockingIOError:
        sent = 0
    if sent < len(data):
        with gevent.Timeout(_PATIENCE_S, _SlowReaderError()):
            sock.sendall(memoryview(data)[sent:])


def _seconds_silent(client: Any) -> float | None:
    """Return how long ago the last byte came in, or the connection began; None where unknown.

    The kernel counts it, also while this process stands still, or the connection waits to be taken.
    """
    if not hasattr(socket, "TCP_INFO"):
        return None
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    (milliseconds,) = struct.unpack_from("I", info, _LAST_DATA_RECEIVED)
    return float(milliseconds) / 1000


def _has_unread(client: Any) -> bool:
    """Whether bytes have come in that nobody has read."""
    return any(fcntl.ioctl(client.fileno(), termios.FIONREAD, bytes(4)))


def _framing(req: Any) -> tuple[int, bool]:
    """Return the length that a request declares for its body, and whether it comes in chunks.

    Raises:
        ObsoleteFolding: a header is folded.
    """
    declared = 0
    chunked = False
    for name, value in req.headers:
        if not name:
            # The parser in C reads a folded line as a header without a name, where a proxy may
            # read it as a part of the one before: two readings of one request.
            raise errors.ObsoleteFolding("")
        if name == "CONTENT-LENGTH":
            declared = int(value)
        elif name == "TRANSFER-ENCODING":
            chunked = True
    return declared, chunked
