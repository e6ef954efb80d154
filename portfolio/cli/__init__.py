"""The commands that operators run in a shell in the container: ``flask db ping`` and the like."""

from __future__ import annotations

import atexit

from flask import Flask
from pymongo.synchronous import monitor


def add_commands(app: Flask) -> None:
    """Give ``app`` every command. Their modules are imported here, since a server runs none."""
    from portfolio.cli.config import config, telemetry  # noqa: PLC0415
    from portfolio.cli.db import db  # noqa: PLC0415
    from portfolio.cli.portfolios import portfolios  # noqa: PLC0415
    from portfolio.cli.workers import breakers, log_level  # noqa: PLC0415

    for command in (db, breakers, config, telemetry, log_level, portfolios):
        app.cli.add_command(command)
    # PRIVATE API: pymongo==4.20.0, which waits at the exit for its daemon threads to wake up: half
    # a second.
    atexit.unregister(monitor._shutdown_resources)
