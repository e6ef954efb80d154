"""One client connection: serves its requests, one after the other, until it ends."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

# PRIVATE API: gunicorn==27.0.1, RequestParser with its unreader, wsgi.create and wsgi.Response, and
# what GeventWorker calls. Gunicorn's own connections have no deadlines, and end only when killed.
from gunicorn.http import RequestParser, errors, wsgi

from portfolio.api.flask_app import MAX_BODY_BYTES
from portfolio.api.services import Services
from portfolio.middleware.admission import SECONDS_WAITED
from portfolio.middleware.request_context import common_headers
from portfolio.observability.metrics import REJECTED
from portfolio.scheduling import yield_to_hub
from portfolio.server.client_socket import (
    IO_TIMEOUT_S,
    AllowanceExceeded,
    ClientSocket,
    ConnectionTable,
)
from portfolio.server.request import MAX_HEAD_BYTES, RequestBody, check_head
from portfolio.server.response import Response, error_response, status_of

# What Gunicorn's parser reads at a time while it looks for the end of a head.
_READ_BYTES = 8192
# How long, and how much, is read from a client that still sends when its connection closes: closing
# at once would reset the connection, and the client would lose the response.
_LINGER_S = 2.0
_MAX_LINGER_BYTES = 16 * MAX_BODY_BYTES
# How often to check whether a client has read the last response.
_READER_PAUSE_S = 0.1


class Connection:
    """A connection, served by the greenlet that calls ``serve``.

    The connection bounds all its waits itself. To end it from outside, wake its socket.
    ``worker`` is the ``Worker``; ``listener_name`` and ``address`` are the addresses of both ends.
    """

    def __init__(self, worker: Any, listener_name: Any, client: Any, address: Any) -> None:
        self._worker = worker
        self._services: Services = worker.services
        self._table: ConnectionTable = worker.table
        self._config = worker.cfg
        self._log = worker.log
        self._listener_name = listener_name
        self._address = address
        self._socket = ClientSocket(client, self._table)
        self._parser = RequestParser(self._config, self._socket, address)
        self._answered_at = 0.0
        self._rejected = False

    def serve(self) -> None:
        """Answer requests until the connection ends."""
        if not self._table.add(self._socket):
            return
        request = None
        try:
            while (request := self._next_request()) is not None:
                if not self._handle(request):
                    break
                request = None  # an error in the next head is not one of this request
        except AllowanceExceeded:
            self._send_error(None, errors.LimitRequestHeaders("the head is too large"))
        except OSError as error:
            self._log.debug("the client is late or gone: %s", error)
        except Exception as error:  # must not end more than this connection
            self._send_error(request, error)
        finally:
            with suppress(OSError, AllowanceExceeded):
                self._linger()
            with suppress(OSError):
                self._await_reader()
            self._table.remove(self._socket)

    def _next_request(self) -> Any:
        """Return the next request, its head parsed; None if the client has closed."""
        client = self._socket
        waiting = self._table.waiting
        client.head_begun = False
        waiting[client] = None
        try:
            unreader = self._parser.unreader
            data = unreader.take_buffered()  # pipelined behind the previous request
            if not data:
                # A new connection must send at once; one that has had a response may be idle.
                idle_s = self._config.keepalive if self._answered_at else IO_TIMEOUT_S
                client.deadline = time.monotonic() + idle_s
                client.allowance = _READ_BYTES
                if client.unread_bytes:
                    self._table.hold(client)
                data = client.recv(_READ_BYTES)
                if not data:
                    return None
            client.head_begun = True
            unreader.unread(data)
            client.deadline = time.monotonic() + IO_TIMEOUT_S
            client.allowance = MAX_HEAD_BYTES - len(data)
            return next(self._parser, None)
        finally:
            waiting.pop(client, None)
            self._table.release(client)

    def _handle(self, request: Any) -> bool:
        """Answer one request; return whether the connection stays open."""
        self._worker.count_request()
        length = check_head(request)
        body = None
        try:
            if length != 0:
                body = RequestBody()
                body.receive(request, length, self._socket)
                self._rejected = body.error is not None
            response, environ = wsgi.create(
                request,
                self._socket,
                self._address,
                self._listener_name,
                self._config,
                response_class=Response,
            )
            environ["wsgi.multithread"] = True
            environ[SECONDS_WAITED] = self._seconds_waited
            if (
                self._rejected
                or self._socket.closing
                or self._services.health.draining
                or not self._config.keepalive
            ):
                response.force_close()
            complete = self._call_application(environ, response)
        finally:
            if body is not None:
                body.release()
        self._answered_at = time.monotonic()
        return complete and not response.should_close()

    def _call_application(self, environ: dict[str, Any], response: Response) -> bool:
        """Send the application's response; return whether all of it was sent."""
        try:
            parts = self._worker.wsgi(environ, response.start_response)
            try:
                for part in parts:
                    response.write(part)
                response.close()
            finally:
                parts.close()
        except OSError:
            raise
        except Exception:
            if not response.headers_sent:
                raise
            # Only closing the connection tells the client that the rest is missing.
            self._log.exception("request failed after its headers were sent")
            return False
        finally:
            # A client on keep-alive has its next request ready before this greenlet would wait: a
            # few clients would get nearly all of the worker.
            yield_to_hub()
        return True

    def _seconds_waited(self) -> float:
        """Return how long the current request has waited for this worker.

        A pipelined request is counted from the previous response.
        """
        since_response = time.monotonic() - self._answered_at
        return min(self._socket.seconds_since_last_byte, since_response)

    def _send_error(self, request: Any, error: Exception) -> None:
        """Send the error response to a request that was invalid or made the application fail."""
        self._rejected = True
        status = status_of(error)
        if status == 500:
            self._log.error("request failed", exc_info=error)
        else:
            self._log.info("request refused: %s", error)
        services = self._services
        method = request.method if request is not None else ""
        services.metrics.answered(method, REJECTED, str(status), 0.0)
        response = error_response(request, status, common_headers(services.settings))
        with suppress(OSError):  # the client may be gone
            self._socket.sendall(response)

    def _linger(self) -> None:
        """Discard what the client still sends, for a moment, so that it gets the response."""
        client = self._socket
        if self._rejected or client.has_unread:
            client.end_output()
            client.stalled_since = time.monotonic()
            client.deadline = client.stalled_since + _LINGER_S
            client.allowance = _MAX_LINGER_BYTES
            while client.recv(_READ_BYTES):
                pass

    def _await_reader(self) -> None:
        """Wait until the client has read what was sent; if it reads nothing, cut the connection.

        If it were closed earlier, what is unread would be memory that nothing counts.
        """
        client = self._socket
        if unread := client.unread_bytes:
            client.end_output()
            client.stalled_since = time.monotonic()
            client.deadline = client.stalled_since + IO_TIMEOUT_S
            self._table.hold(client)
        while unread:
            time.sleep(_READER_PAUSE_S)
            before, unread = unread, client.unread_bytes
            if unread < before:
                client.deadline = time.monotonic() + IO_TIMEOUT_S
            elif time.monotonic() > client.deadline:
                client.cut()
