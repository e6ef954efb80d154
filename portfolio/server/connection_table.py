"""The open connections of a worker, and which of them end when there are too many."""

from __future__ import annotations

from typing import Protocol

# Connections that may be open beyond the limit while those that were ended for them wake up.
RESERVED_CONNECTIONS = 256


class Closable(Protocol):
    """A connection, as far as the table needs it.

    Attributes:
        head_begun: whether a part of the request that it waits for has been read.
        closing: whether it ends with its next response, or without one.
    """

    head_begun: bool
    closing: bool

    @property
    def stalled_since(self) -> float | None:
        """Since when it waits for a body or for its client to read; None where it does not."""

    @property
    def has_unread(self) -> bool:
        """Whether bytes have come in that it has not read yet."""

    def wake(self) -> None:
        """Let it end what it waits for on its socket."""

    def cut(self) -> None:
        """Break the connection."""


class ConnectionTable:
    """Which connections are open, and which of them wait for a request.

    Args:
        limit: the number of connections at which each new one ends another.

    Attributes:
        waiting: those that wait for the head of a request, the one that waits longest first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[Closable] = set()
        self._closing = 0
        self.waiting: dict[Closable, None] = {}

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._open)

    @property
    def is_full(self) -> bool:
        """Whether a new connection ends another."""
        return len(self._open) - self._closing >= self._limit

    def add(self, connection: Closable) -> bool:
        """Add a new connection; where the table is full, end the one that has waited longest.

        Returns:
            whether it was added: not where no more may be open, since none of them ends.
        """
        if len(self._open) >= self._limit + RESERVED_CONNECTIONS:
            return False
        if self.is_full:
            self._evict()
        self._open.add(connection)
        return True

    def remove(self, connection: Closable) -> None:
        """Remove a connection that has ended."""
        self._open.discard(connection)
        self.waiting.pop(connection, None)
        self._closing -= connection.closing

    def end_idle(self) -> None:
        """End the connections that wait for a request of which nothing has come in."""
        for connection in list(self.waiting):
            if not connection.head_begun and not connection.has_unread:
                self._end(connection)

    def cut(self) -> None:
        """Break all connections, whatever they do."""
        for connection in list(self._open):
            connection.cut()

    def _evict(self) -> None:
        """End the connection that has waited longest for a request.

        Where none waits for one, end the connection that has waited longest for its client to send
        a body or to read a response. Those whose request is being processed stay.
        """
        longest = next((each for each in self.waiting if not each.closing), None)
        if longest is None:
            stalled = [
                (each.stalled_since, number, each)
                for number, each in enumerate(self._open)
                if each.stalled_since is not None and not each.closing
            ]
            longest = min(stalled)[2] if stalled else None
        if longest is not None:
            self._end(longest)

    def _end(self, connection: Closable) -> None:
        self.waiting.pop(connection, None)
        if not connection.closing:
            connection.closing = True
            self._closing += 1
            connection.wake()
