"""``flask log-level``: the log level of every worker, for a limited time."""

from __future__ import annotations

import re
from typing import Any

import click
from flask.cli import with_appcontext

from portfolio.cli.helpers import apply_to_workers, live_workers, open_coordinator, print_table

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_UNITS_S = {"s": 1, "m": 60, "h": 3600}
_MAX_DURATION_S = 24 * 3600


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in its stubs alone
    """A time span such as 30s, 5m or 2h, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return ``value`` in seconds."""
        match = re.fullmatch(r"(\d+)([smh])", str(value))
        seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
        if not 0 < seconds <= _MAX_DURATION_S:
            self.fail(f"{value!r} is not a duration such as 30s, 5m or 2h, at most 24h", param, ctx)
        return float(seconds)


@click.command("log-level")
@click.argument("level", required=False, type=click.Choice(_LEVELS, case_sensitive=False))
@click.option("--for", "seconds", type=Duration(), default="15m", help="30s, 5m, 2h; default 15m.")
@with_appcontext
def log_level(level: str | None, seconds: float) -> None:
    """Set the log level of every worker for a limited time; without LEVEL, show it."""
    coordinator = open_coordinator()
    if level is None:
        print_table(
            ("worker", "level"),
            ((worker["pid"], worker["log_level"]) for worker in live_workers(coordinator)),
        )
        return
    apply_to_workers(coordinator, lambda control: control.set_log_level(level, seconds))
