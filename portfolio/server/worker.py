"""The Gunicorn worker: based on the gevent worker, with its own drain.

Gunicorn's gevent worker, on SIGTERM, waits for idle keep-alive connections until the graceful
timeout kills them. It answers malformed requests with HTML, lets slow clients hold the application,
and lets idle connections keep new ones out.

This worker kills no greenlet and throws nothing into one. Each connection bounds its own waits; to
end one, its input is shut down.
"""

from __future__ import annotations

import resource
import time
from functools import lru_cache
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any

import gevent
from gevent.event import Event
from gevent.server import StreamServer
from gunicorn.http import wsgi
from gunicorn.workers.ggevent import GeventWorker

from portfolio.api.services import Services
from portfolio.server.client_socket import (
    RESERVED_CONNECTIONS,
    SEND_BUFFER_BYTES,
    ConnectionTable,
)
from portfolio.server.connection import Connection

# How long new connections are still accepted after the signal: load balancers need a moment to
# react, and closing the listener resets the connections in its queue.
_LISTEN_ON_S = 1.0
_PAUSE_S = 0.05
# How long the greenlets of connections that were cut may take to end.
_CUT_TIMEOUT_S = 1.0
# Connections accepted at once in overload. Measured with benchmarks/pod.py.
_MAX_ACCEPTED_AT_ONCE = 64
# File descriptors for other purposes: connections to MongoDB and the collector, logs, libraries.
_OTHER_FILES = 128


class Listener(StreamServer):
    """Accepts one connection in each turn of the event loop, so that no worker takes them all.

    In overload it accepts more: turns are long then, and connections would wait in the queue for
    seconds to be rejected. So it does when the table of connections is full.
    """

    def __init__(self, socket: Any, worker: Worker) -> None:
        self._worker = worker
        self._name = socket.getsockname()
        super().__init__(socket)  # without a pool: a full one stops accepting and resumes too late

    @property
    def max_accept(self) -> int:  # type: ignore[override]
        """The number of connections accepted in one turn of the event loop."""
        crowded = self._worker.services.admission.overloaded or self._worker.table.is_full
        return _MAX_ACCEPTED_AT_ONCE if crowded else 1

    def handle(self, client: Any, address: Any) -> None:
        """Serve a connection until it ends; gevent closes it then."""
        Connection(self._worker, self._name, client, address).serve()


class Worker(GeventWorker):  # type: ignore[misc]
    """A gevent worker for the Portfolio Service."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._drain_begun = Event()
        self._drain_until = 0.0

    @property
    def services(self) -> Services:
        """The services of the application."""
        return self.wsgi.extensions["portfolio"]  # type: ignore[no-any-return]

    def run(self) -> None:
        """Serve until told to stop, then drain; called once by Gunicorn."""
        freeze_settings(self.cfg)
        share_error_stream()
        self.table = ConnectionTable(_connection_limit(self.worker_connections))
        listeners = []
        for listening in self.sockets:
            listening.setblocking(True)
            listening.setsockopt(SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_BYTES)  # inherited by accept()
            listeners.append(Listener(listening, self))
            listeners[-1].start()
        while self.alive:
            self.notify()
            self._drain_begun.wait(1.0)
        self._drain(listeners)

    def count_request(self) -> None:
        """Count a request; after ``max_requests``, start the drain."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("recycling after %s requests", self.nr)
            self._begin_drain(self.services.settings.drain_s)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Start the drain, on SIGTERM."""
        self._begin_drain(self.services.settings.drain_s)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Start a drain that waits for requests in flight alone, on SIGINT and SIGQUIT."""
        self._begin_drain(0.0)

    def _begin_drain(self, seconds: float) -> None:
        """Become unready; from now on every response closes its connection.

        ``seconds`` is how long idle connections may stay open.
        """
        self.services.health.draining = True
        self._drain_until = time.monotonic() + seconds
        self.alive = False
        self._drain_begun.set()

    def _drain(self, listeners: list[Listener]) -> None:
        """Wait until the connections have ended."""
        table = self.table
        cut_at = time.monotonic() + self.cfg.graceful_timeout
        # New connections are still accepted for a moment.
        stop_listening_at = min(time.monotonic() + _LISTEN_ON_S, self._drain_until)
        while time.monotonic() < stop_listening_at:
            self._tick()
        for listener in listeners:
            listener.close()
        gevent.sleep(_PAUSE_S)  # start the connections just accepted
        # Active connections end with their next response.
        while table and time.monotonic() < min(self._drain_until, cut_at):
            self._tick()
        # Idle ones are closed, and requests in flight may finish.
        while table and time.monotonic() < cut_at:
            table.end_idle()
            self._tick()
        if table:
            self.log.warning("%s connections are cut after the graceful timeout", len(table))
            table.cut()
        while table and time.monotonic() < cut_at + _CUT_TIMEOUT_S:
            self._tick()

    def _tick(self) -> None:
        self.notify()
        gevent.sleep(_PAUSE_S)


def share_error_stream() -> None:
    """Let all requests of a worker share one ``wsgi.errors`` stream."""
    # PRIVATE API: gunicorn==27.0.1, WSGIErrorsWrapper(cfg). Each request would open a stream of its
    # own and take the locks of the logger's handlers. Together with the settings below it buys 13%
    # of the closed-loop rate of GET one.
    wsgi.WSGIErrorsWrapper = lru_cache(maxsize=1)(wsgi.WSGIErrorsWrapper)


def freeze_settings(config: Any) -> None:
    """Replace Gunicorn's settings by plain attributes; they do not change any more."""
    # PRIVATE API: gunicorn==27.0.1, Config.settings and that a Config has a __dict__. Each request
    # looks up some thirty settings, each by two calls.
    config.__dict__.update({name: setting.get() for name, setting in config.settings.items()})


def _connection_limit(wanted: int) -> int:
    """Return the connection limit: the wanted one, or less if file descriptors do not suffice."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, files - RESERVED_CONNECTIONS - _OTHER_FILES))
