"""How long database commands take, as PyMongo tells it."""

from __future__ import annotations

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from portfolio.observability.metrics import Histogram


class CommandDurations(CommandListener):
    """A PyMongo listener that times every command by its name.

    Args:
        operations: where they are counted, by operation and outcome.
    """

    def __init__(self, operations: Histogram) -> None:
        self._operations = operations

    def started(self, event: CommandStartedEvent) -> None:
        """Nothing is known yet."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Count a command that was answered."""
        self._operations.record((event.command_name, "success"), event.duration_micros / 1e6)

    def failed(self, event: CommandFailedEvent) -> None:
        """Count a command that was refused or not answered."""
        self._operations.record((event.command_name, "failure"), event.duration_micros / 1e6)
