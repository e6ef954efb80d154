"""The connection pool, counted by PyMongo's events."""

# ruff: noqa: D102 (PyMongo documents the events)

from __future__ import annotations

from typing import Any, NamedTuple

from pymongo.monitoring import ConnectionPoolListener


class Pool(NamedTuple):
    """The connection pool at one moment: allowed sizes, and connections by state."""

    max: int
    min: int
    in_use: int
    available: int
    waiting: int


class PoolListener(ConnectionPoolListener):
    """Counts the connections of all servers' pools."""

    def __init__(self) -> None:
        self.in_use = 0
        self.waiting = 0

    def snapshot(self, min_size: int, max_size: int) -> Pool:
        """Return the connections now, beside the sizes allowed to a server's pool."""
        available = max(max_size - self.in_use, 0)
        return Pool(max_size, min_size, self.in_use, available, self.waiting)

    def connection_check_out_started(self, event: Any) -> None:
        self.waiting += 1

    def connection_check_out_failed(self, event: Any) -> None:
        self.waiting -= 1

    def connection_checked_out(self, event: Any) -> None:
        self.waiting -= 1
        self.in_use += 1

    def connection_checked_in(self, event: Any) -> None:
        self.in_use -= 1

    def pool_created(self, event: Any) -> None: ...
    def pool_ready(self, event: Any) -> None: ...
    def pool_cleared(self, event: Any) -> None: ...
    def pool_closed(self, event: Any) -> None: ...
    def connection_created(self, event: Any) -> None: ...
    def connection_ready(self, event: Any) -> None: ...
    def connection_closed(self, event: Any) -> None: ...
