"""``flask breakers`` and ``flask log-level``: the state of every worker."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import click
from flask.cli import AppGroup, with_appcontext

from portfolio.api.services import services
from portfolio.cli.helpers import print_table
from portfolio.observability.shared_state import SharedState, State

_APPLY_TIMEOUT_S = 5.0
_POLL_S = 0.05

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_UNITS_S = {"s": 1, "m": 60, "h": 3600}
_MAX_DURATION_S = 24 * 3600


breakers = AppGroup("breakers", help="List and reset the circuit breakers of every worker.")


@breakers.command("list")
def list_breakers() -> None:
    """List the breakers of every worker with their states."""
    rows = [
        (name, worker["pid"], breaker["state"], breaker["failure_count"], breaker["refused"])
        for worker in _live_workers()
        for name, breaker in worker["circuit_breakers"].items()
    ]
    print_table(("breaker", "worker", "state", "failures", "refused"), sorted(rows))


@breakers.command("reset")
@click.argument("name")
def reset_breaker(name: str) -> None:
    """Close the breaker NAME in every worker; list shows the names."""
    known = {known for worker in _live_workers() for known in worker["circuit_breakers"]}
    if name not in known:
        raise click.ClickException(
            f"There is no breaker {name!r}. Known: {', '.join(sorted(known)) or 'none'}."
        )
    _apply_to_workers(lambda shared: shared.reset_breaker(name))


def _duration(text: str) -> float:
    """Return a time span such as 30s, 5m or 2h in seconds."""
    match = re.fullmatch(r"(\d+)([smh])", text)
    seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
    if not 0 < seconds <= _MAX_DURATION_S:
        raise click.BadParameter(f"{text!r} is not a duration such as 30s, 5m or 2h, at most 24h")
    return float(seconds)


@click.command("log-level")
@click.argument(
    "level", required=False, metavar="[LEVEL]", type=click.Choice(_LEVELS, case_sensitive=False)
)
@click.option(
    "--for",
    "seconds",
    type=_duration,
    metavar="DURATION",
    default="15m",
    show_default=True,
    help="How long, such as 30s, 5m or 2h.",
)
@with_appcontext
def log_level(level: str | None, seconds: float) -> None:
    """Set or show the log level of every worker.

    LEVEL is debug, info, warning, error or critical. It is set for a limited time.
    """
    if level is None:
        rows = [(worker["pid"], worker["log_level"]) for worker in _live_workers()]
        print_table(("worker", "level"), rows)
    else:
        _apply_to_workers(lambda shared: shared.set_log_level(level, seconds))


def _live_workers() -> list[State]:
    """Return the state of every worker; end the command where there is none."""
    shared = services().coordinator.shared
    try:
        shared.open()
    except OSError as error:
        raise click.ClickException(f"Can't open the runtime folder: {error}") from error
    workers = shared.others()
    if not workers:
        raise click.ClickException(
            f"No worker has a state file in {shared.folder}: is the service running here?"
        )
    return workers


def _apply_to_workers(change: Callable[[SharedState], int]) -> None:
    """Make a change to the control file and wait until every worker has applied it."""
    try:
        revision = change(services().coordinator.shared)
    except OSError as error:
        raise click.ClickException(f"The control file can't be written: {error}") from error
    deadline = time.monotonic() + _APPLY_TIMEOUT_S
    while True:
        workers = _live_workers()
        applied = sum(worker["applied_revision"] >= revision for worker in workers)
        if applied == len(workers):
            click.echo(f"Applied on {applied} of {len(workers)} workers")
            return
        if time.monotonic() > deadline:
            raise click.ClickException(f"Applied on only {applied} of {len(workers)} workers")
        time.sleep(_POLL_S)
