"""Accepts new connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent.server import StreamServer

from portfolio.middleware.admission import Admission
from portfolio.server.connection_table import ConnectionTable

# In overload. Measured with benchmarks/pod.py.
_MAX_ACCEPTED_AT_ONCE = 64


class Listener(StreamServer):
    """Accepts one connection in each turn of the event loop, so that no worker takes them all.

    In overload it accepts more: turns are long then, and connections would wait in the queue for
    seconds to be rejected. So it does when the table is full.

    Args:
        socket: a listening socket.
        serve: serves one connection, given its socket and address, until it ends.
        table: the open connections.
        admission: reports overload.
    """

    def __init__(
        self,
        socket: Any,
        serve: Callable[[Any, Any], None],
        table: ConnectionTable,
        admission: Admission,
    ) -> None:
        self._table = table
        self._admission = admission
        # Without a pool: a full one stops accepting and resumes too late.
        super().__init__(socket, handle=serve)

    @property
    def max_accept(self) -> int:  # type: ignore[override]
        """The number of connections accepted in one turn of the event loop."""
        crowded = self._admission.overloaded or self._table.is_full
        return _MAX_ACCEPTED_AT_ONCE if crowded else 1
