"""``flask log-level``: the log level of every worker, for a limited time."""

from __future__ import annotations

import re

import click
from flask.cli import with_appcontext

from portfolio.cli.helpers import apply_to_workers, live_workers, print_table

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_UNITS_S = {"s": 1, "m": 60, "h": 3600}
_MAX_DURATION_S = 24 * 3600


def _duration(text: str) -> float:
    """Return a time span such as 30s, 5m or 2h in seconds."""
    match = re.fullmatch(r"(\d+)([smh])", text)
    seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
    if not 0 < seconds <= _MAX_DURATION_S:
        raise click.BadParameter(f"{text!r} is not a duration such as 30s, 5m or 2h, at most 24h")
    return float(seconds)


@click.command("log-level")
@click.argument("level", required=False, type=click.Choice(_LEVELS, case_sensitive=False))
@click.option(
    "--for",
    "seconds",
    type=_duration,
    metavar="DURATION",
    default="15m",
    help="30s, 5m, 2h; default 15m.",
)
@with_appcontext
def log_level(level: str | None, seconds: float) -> None:
    """Set the log level of every worker for a limited time; without LEVEL, show it."""
    if level is None:
        rows = [(worker["pid"], worker["log_level"]) for worker in live_workers()]
        print_table(("worker", "level"), rows)
    else:
        apply_to_workers(lambda control: control.set_log_level(level, seconds))
