"""Durations of database commands, as PyMongo reports them."""

from __future__ import annotations

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from portfolio.observability.metrics import Histogram


class CommandDurations(CommandListener):
    """A PyMongo listener that records the duration of every command.

    Args:
        operations: the histogram, by operation and outcome.
    """

    def __init__(self, operations: Histogram) -> None:
        self._operations = operations

    def started(self, event: CommandStartedEvent) -> None:
        """Do nothing: the duration comes with the outcome."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Record a command that succeeded."""
        self._operations.record((event.command_name, "success"), event.duration_micros / 1e6)

    def failed(self, event: CommandFailedEvent) -> None:
        """Record a command that failed."""
        self._operations.record((event.command_name, "failure"), event.duration_micros / 1e6)
