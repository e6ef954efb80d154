"""One client connection: serves its requests, one after the other, until it ends."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

# PRIVATE API: gunicorn==27.0.1, RequestParser with its unreader, wsgi.create and wsgi.Response, and
# what GeventWorker calls. Gunicorn's own connections have no deadlines, and end only when killed.
from gunicorn.http import RequestParser, errors, wsgi

from portfolio.api.responses import MAX_BODY_BYTES
from portfolio.middleware.admission import SECONDS_WAITED
from portfolio.server.connection_table import ConnectionTable
from portfolio.server.deadline_socket import (
    IO_TIMEOUT_S,
    AllowanceExceeded,
    DeadlineExceeded,
    DeadlineSocket,
)
from portfolio.server.request_body import BodyMemory, BodyReceiver
from portfolio.server.request_head import MAX_HEAD_BYTES, check_head, status_of
from portfolio.server.response import Response, error_response
from portfolio.server.tcp import has_unread, seconds_since_last_byte, shut_down

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

# What Gunicorn's parser reads at a time while it looks for the end of a head.
_READ_BYTES = 8192
# How long, and how much, is read from a client that still sends when its connection closes: closing
# at once would reset the connection, and the client would lose the response.
_LINGER_S = 2.0
_MAX_LINGER_BYTES = 16 * MAX_BODY_BYTES


@dataclass(frozen=True)
class Server:
    """What all connections of a worker share.

    Attributes:
        config: Gunicorn's configuration.
        log: Gunicorn's logger.
        app: the WSGI application.
        table: the open connections.
        body_memory: the memory that their request bodies hold.
        common_headers: the headers of every response.
        is_draining: returns whether responses close their connections.
        begin_request: called for each request.
        end_request: called with a request, its environ and its response once that was sent.
        count_error: called with the method and the status of a response to a request that does not
            reach the application.
    """

    config: Any
    log: Any
    app: WSGIApplication
    table: ConnectionTable
    body_memory: BodyMemory
    common_headers: list[tuple[str, str]]
    is_draining: Callable[[], bool]
    begin_request: Callable[[], None]
    end_request: Callable[[Any, dict[str, Any], Any], None]
    count_error: Callable[[str, str], None]


class Connection:
    """A connection, served by the greenlet that calls ``serve``.

    The connection bounds all its waits itself. To end it from outside, call ``wake``.

    Args:
        server: what it shares with the others.
        listener_name: the address of the listening socket.
        client: the gevent socket.
        address: the client's address.
    """

    def __init__(self, server: Server, listener_name: Any, client: Any, address: Any) -> None:
        self._server = server
        self._listener_name = listener_name
        self._client = client
        self._address = address
        self._socket = DeadlineSocket(client)
        self._parser = RequestParser(server.config, self._socket, address)
        self._answered_at = 0.0
        self._receiving_since: float | None = None
        self._rejected = False
        self.head_begun = False
        self.closing = False

    @property
    def stalled_since(self) -> float | None:
        """When it began to wait for a body or for the client to read; None if it does not wait."""
        return self._receiving_since or self._socket.blocked_since

    @property
    def has_unread(self) -> bool:
        """Whether bytes have arrived that it has not read yet."""
        return has_unread(self._client)

    def wake(self) -> None:
        """End its wait on the socket.

        It still reads what has arrived, so that a complete request is answered.
        """
        blocked = self._socket.blocked_since is not None
        shut_down(self._client, socket.SHUT_RDWR if blocked else socket.SHUT_RD)

    def cut(self) -> None:
        """Break the connection."""
        shut_down(self._client, socket.SHUT_RDWR)

    def serve(self) -> None:
        """Answer requests until the connection ends."""
        log = self._server.log
        if not self._server.table.add(self):
            self._client.close()
            return
        request = None
        try:
            while (request := self._next_request()) is not None:
                if not self._handle(request):
                    break
                request = None  # if the next head is invalid, the error response is not to this one
        except (DeadlineExceeded, TimeoutError):
            log.debug("the client did not send or read in time")
        except AllowanceExceeded:
            self._send_error(None, errors.LimitRequestHeaders("the head is too large"))
        except OSError as error:
            log.debug("the client is gone: %s", error)
        except Exception as error:  # must not end more than this connection
            self._send_error(request, error)
        finally:
            self._close()
            self._server.table.remove(self)

    def _next_request(self) -> Any:
        """Return the next request, its head parsed; None if the client has closed."""
        self.head_begun = False
        self._server.table.waiting[self] = None
        try:
            unreader = self._parser.unreader
            # It may have been pipelined behind the previous request.
            data = unreader.take_buffered() or self._wait_for_request()
            if not data:
                return None
            self.head_begun = True
            unreader.unread(data)
            self._socket.deadline = time.monotonic() + IO_TIMEOUT_S
            self._socket.allowance = MAX_HEAD_BYTES - len(data)
            return next(self._parser, None)
        finally:
            self._server.table.waiting.pop(self, None)

    def _wait_for_request(self) -> bytes:
        """Return the first bytes of the next request; empty if there is none.

        A new connection must send at once; one that has had a response may be idle.
        """
        idle_s = self._server.config.keepalive if self._answered_at else IO_TIMEOUT_S
        self._socket.deadline = time.monotonic() + idle_s
        self._socket.allowance = _READ_BYTES
        return self._socket.recv(_READ_BYTES)

    def _handle(self, request: Any) -> bool:
        """Answer one request; return whether the connection stays open."""
        server = self._server
        server.begin_request()
        framing = check_head(request)
        receiver = None
        try:
            if framing.length or framing.chunked:
                receiver = BodyReceiver(self._socket, server.body_memory)
                self._receiving_since = time.monotonic()
                self._rejected = receiver.receive(request, framing) is not None
                self._receiving_since = None
            response, environ = wsgi.create(
                request,
                self._socket,
                self._address,
                self._listener_name,
                server.config,
                response_class=Response,
            )
            environ["wsgi.multithread"] = True
            environ[SECONDS_WAITED] = self._seconds_waited
            if (
                self._rejected
                or self.closing
                or server.is_draining()
                or not server.config.keepalive
            ):
                response.force_close()
            complete = self._call_application(environ, response)
        finally:
            self._receiving_since = None
            if receiver is not None:
                receiver.release()
        self._answered_at = time.monotonic()
        return complete and not response.should_close()

    def _call_application(self, environ: dict[str, Any], response: Response) -> bool:
        """Send the application's response; return whether all of it was sent."""
        try:
            self._send(environ, response)
        except OSError:
            raise
        except Exception:
            if not response.headers_sent:
                raise
            # Only closing the connection tells the client that the rest is missing.
            self._server.log.exception("request failed after its headers were sent")
            return False
        finally:
            self._server.end_request(response.req, environ, response)
        return True

    def _send(self, environ: dict[str, Any], response: Response) -> None:
        parts = self._server.app(environ, response.start_response)
        try:
            for part in parts:
                response.write(part)
            response.close()
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()

    def _seconds_waited(self) -> float:
        """Return how long the current request has waited for this worker.

        A pipelined request is counted from the previous response.
        """
        return min(
            seconds_since_last_byte(self._client) or 0.0, time.monotonic() - self._answered_at
        )

    def _send_error(self, request: Any, error: Exception) -> None:
        """Send the error response to a request that was invalid or made the application fail."""
        self._rejected = True
        status = status_of(error)
        if status == 500:
            self._server.log.error("request failed", exc_info=error)
        else:
            self._server.log.info("request refused: %s", error)
        self._server.count_error(request.method if request is not None else "", str(status))
        try:
            self._socket.sendall(error_response(request, status, self._server.common_headers))
        except OSError:
            self._server.log.debug("the client of a refused request is gone")

    def _close(self) -> None:
        """Close the connection once what was sent has arrived."""
        try:
            if self._rejected or self.has_unread:
                self._linger()
        except OSError:
            self._server.log.debug("the client is gone")
        finally:
            self._client.close()

    def _linger(self) -> None:
        """Discard what the client still sends, for a moment."""
        self._receiving_since = time.monotonic()
        self._client.shutdown(socket.SHUT_WR)
        self._socket.deadline = self._receiving_since + _LINGER_S
        self._socket.allowance = _MAX_LINGER_BYTES
        try:
            while self._socket.recv(_READ_BYTES):
                pass
        except (DeadlineExceeded, AllowanceExceeded):
            self._server.log.debug("the client goes on sending")
