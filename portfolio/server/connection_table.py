"""The open connections of a worker, and which of them are closed when there are too many."""

from __future__ import annotations

from portfolio.server.client_socket import ClientSocket

# Connections that may be open beyond the limit while those closed for them are ending.
RESERVED_CONNECTIONS = 256


class ConnectionTable:
    """The open connections, and those of them that wait for a request.

    Args:
        limit: the number of connections from which each new one closes another.

    Attributes:
        waiting: those that wait for the head of a request, longest first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[ClientSocket] = set()
        self._closing = 0
        self.waiting: dict[ClientSocket, None] = {}

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._open)

    @property
    def is_full(self) -> bool:
        """Whether a new connection closes another."""
        return len(self._open) - self._closing >= self._limit

    def add(self, connection: ClientSocket) -> bool:
        """Add a new connection; if the table is full, close the one that has waited longest.

        Returns:
            whether it was added: not if the reserve is used up as well.
        """
        if len(self._open) >= self._limit + RESERVED_CONNECTIONS:
            return False
        if self.is_full:
            self._evict()
        self._open.add(connection)
        return True

    def remove(self, connection: ClientSocket) -> None:
        """Remove a connection that has ended."""
        self._open.discard(connection)
        self.waiting.pop(connection, None)
        self._closing -= connection.closing

    def end_idle(self) -> None:
        """Close the connections that wait for a request of which nothing has arrived."""
        for connection in list(self.waiting):
            if not connection.head_begun and not connection.has_unread:
                self._end(connection)

    def cut(self) -> None:
        """Break all connections."""
        for connection in list(self._open):
            connection.cut()

    def _evict(self) -> None:
        """Close the connection that has waited longest for a request.

        If none waits for one, close the one that has waited longest for its client to send a body
        or to read. Connections whose request is being processed stay.
        """
        longest = next((each for each in self.waiting if not each.closing), None) or min(
            (each for each in self._open if each.stalled_since and not each.closing),
            key=lambda each: each.stalled_since or 0.0,
            default=None,
        )
        if longest is not None:
            self._end(longest)

    def _end(self, connection: ClientSocket) -> None:
        self.waiting.pop(connection, None)
        if not connection.closing:
            connection.closing = True
            self._closing += 1
            connection.wake()
