"""The commands that operators run in a shell in the container: ``flask db ping`` and the like."""

from __future__ import annotations

from flask import Flask

from portfolio.cli.config import config
from portfolio.cli.db import db
from portfolio.cli.portfolios import portfolios
from portfolio.cli.telemetry import telemetry
from portfolio.cli.workers import breakers, log_level


def register_commands(app: Flask) -> None:
    """Add every command to ``flask``."""
    for command in (db, breakers, config, telemetry, log_level, portfolios):
        app.cli.add_command(command)
