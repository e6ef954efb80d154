"""``flask breakers``: the circuit breakers of every worker."""

from __future__ import annotations

import click
from flask.cli import AppGroup

from portfolio.cli.helpers import apply_to_workers, live_workers, print_table

breakers = AppGroup("breakers", help="The circuit breakers of every worker.")


@breakers.command("list")
def list_breakers() -> None:
    """Show every breaker of every worker."""
    rows = [
        (name, worker["pid"], breaker["state"], breaker["failure_count"], breaker["refused"])
        for worker in live_workers()
        for name, breaker in worker["circuit_breakers"].items()
    ]
    print_table(("breaker", "worker", "state", "failures", "refused"), sorted(rows))


@breakers.command("reset")
@click.argument("name")
def reset_breaker(name: str) -> None:
    """Close the breaker NAME in every worker."""
    known = {known for worker in live_workers() for known in worker["circuit_breakers"]}
    if name not in known:
        raise click.ClickException(
            f"There is no breaker {name!r}. Known: {', '.join(sorted(known)) or 'none'}."
        )
    apply_to_workers(lambda control: control.reset_breaker(name))
