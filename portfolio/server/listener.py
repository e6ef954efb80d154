"""Takes new connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent.server import StreamServer

from portfolio.middleware.admission import Admission
from portfolio.server.connection_table import ConnectionTable

# In overload: at 300 requests a second in a pod this took p95 of what is served from 12 s to 1.1.
_MAX_ACCEPTED_AT_ONCE = 64


class Listener(StreamServer):
    """Accepts connections: one in a turn of the event loop, else one worker would take them all.

    In overload a turn is long, and connections would wait in the queue for seconds to be rejected.
    Where each ends another, those who come in numbers keep their place for a moment only.

    Args:
        socket: listens already.
        serve: serves one connection, given its socket and address, until it ends.
        table: the open connections.
        admission: tells of overload.
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
        # Without a pool: a full one stops to accept, and was seen to begin again seconds too late.
        super().__init__(socket, handle=serve)

    @property
    def max_accept(self) -> int:  # type: ignore[override]
        """How many are accepted in one turn of the event loop."""
        crowded = self._admission.overloaded or self._table.is_full
        return _MAX_ACCEPTED_AT_ONCE if crowded else 1
