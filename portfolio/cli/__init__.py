"""The commands that operators run in a shell in the container: ``flask db ping`` and the like."""

from __future__ import annotations

import atexit

from click import Command, Context
from flask.cli import AppGroup
from pymongo.synchronous import monitor


class Commands(AppGroup):
    """Every command of ``flask``, imported when it asks for them: a server runs none."""

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Return the command of a name."""
        self._load()
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: Context) -> list[str]:
        """Return the names of all commands."""
        self._load()
        return super().list_commands(ctx)

    def _load(self) -> None:
        from portfolio.cli.config import config, telemetry  # noqa: PLC0415
        from portfolio.cli.db import db  # noqa: PLC0415
        from portfolio.cli.portfolios import portfolios  # noqa: PLC0415
        from portfolio.cli.workers import breakers, log_level  # noqa: PLC0415

        for command in (db, breakers, config, telemetry, log_level, portfolios):
            self.add_command(command)
        # PRIVATE API: pymongo==4.20.0, which waits at the exit for its daemon threads to wake up:
        # half a second.
        atexit.unregister(monitor._shutdown_resources)
