"""What several commands share: database errors, changes to all workers, tables."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click
from pymongo.errors import PyMongoError

from portfolio.api.services import services
from portfolio.errors import PortfolioError
from portfolio.observability.coordinator import ControlFile, WorkerCoordinator
from portfolio.observability.shared_state import State
from portfolio.storage.diagnosis import is_unreachable

_APPLY_TIMEOUT_S = 5.0
_POLL_S = 0.05


def cli_environment() -> Mapping[str, str]:
    """Return the variables to read the settings from.

    In a checkout, a command uses the MongoDB of ``tox -e serve``, unless ``MONGODB_URI`` is set. A
    server uses the environment as it is.
    """
    if click.get_current_context(silent=True) is None:  # loaded by a server
        return os.environ
    if os.environ.get("MONGODB_URI", "").strip():
        return os.environ
    try:
        # Deferred: the image does not contain this package.
        from portfolio.devserver.data_folder import local_environment  # noqa: PLC0415
    except ImportError:
        return os.environ
    given = {name: value for name, value in os.environ.items() if value.strip()}
    return local_environment() | given


def from_database(call: Callable[[], Any]) -> Any:
    """Return what ``call`` returns, or end the command with the reason of its failure."""
    try:
        return call()
    except PortfolioError as error:
        cause = error.__cause__ or error
        _end_if_unreachable(cause)
        raise click.ClickException(f"{error.detail} ({type(cause).__name__}: {cause})") from error
    except PyMongoError as error:
        _end_if_unreachable(error)
        raise click.ClickException(f"{type(error).__name__}: {error}") from error


def _end_if_unreachable(error: BaseException) -> None:
    if is_unreachable(error):
        sentence = services().database.explain(error)
        raise click.ClickException(f"{sentence} Check MONGODB_URI.") from error


def open_coordinator() -> WorkerCoordinator:
    """Return the coordinator with its runtime folder open, or end the command."""
    coordinator = services().coordinator
    try:
        coordinator.open()
    except OSError as error:
        raise click.ClickException(f"Can't open the runtime folder: {error}") from error
    return coordinator


def live_workers(coordinator: WorkerCoordinator) -> list[State]:
    """Return the state of every worker; end the command where there is none."""
    workers = coordinator.others()
    if not workers:
        raise click.ClickException(
            f"No worker has a state file in {coordinator.folder}: is the service running here?"
        )
    return workers


def apply_to_workers(coordinator: WorkerCoordinator, change: Callable[[ControlFile], int]) -> None:
    """Make a change to the control file and wait until every worker has applied it."""
    try:
        revision = change(coordinator.control)
    except OSError as error:
        raise click.ClickException(f"The control file can't be written: {error}") from error
    deadline = time.monotonic() + _APPLY_TIMEOUT_S
    while True:
        workers = live_workers(coordinator)
        applied = sum(worker["applied_revision"] >= revision for worker in workers)
        if applied == len(workers):
            click.echo(f"Applied on {applied} of {len(workers)} workers")
            return
        if time.monotonic() > deadline:
            raise click.ClickException(f"Applied on only {applied} of {len(workers)} workers")
        time.sleep(_POLL_S)


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print ``rows`` in columns under ``header``; rows of empty cells are left out."""
    lines = [tuple(map(str, row)) for row in (header, *rows) if any(row)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
