"""Applications whose commands to MongoDB a test hears."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from pymongo import monitoring

from portfolio.app import create_app
from portfolio.config import Settings


class Listener(monitoring.CommandListener):
    """Hears of commands, and does nothing."""

    def started(self, event: monitoring.CommandStartedEvent) -> None: ...
    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...
    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


class Commands(Listener):
    """Keeps the commands that were sent, each with its name."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.sent.append((event.command_name, dict(event.command)))


@contextmanager
def listening(settings: Settings, listener: Listener) -> Iterator[Flask]:
    """Yield an application whose commands ``listener`` hears; at the end it is disconnected."""
    app = create_app(settings)
    database = app.extensions["portfolio"].database
    database.listeners.append(listener)
    try:
        yield app
    finally:
        database.close()
