"""What several commands share: database errors, tables, progress."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import click
from pymongo.errors import PyMongoError

from portfolio.api.services import services
from portfolio.errors import PortfolioError
from portfolio.scheduling import budget
from portfolio.storage.failures import describe, is_unreachable

# By default, MongoDB keeps the locks of a killed client for up to a minute.
TRANSFER_BUDGET_S = 75.0


def is_command() -> bool:
    """Tell whether a ``flask`` command runs, rather than a server."""
    return click.get_current_context(silent=True) is not None


def cli_environment() -> Mapping[str, str]:
    """Return the variables to read the settings from.

    In a checkout, a command uses the MongoDB of ``tox -e serve``, unless ``MONGODB_URI`` is set. A
    server uses the environment as it is.
    """
    if not is_command() or os.environ.get("MONGODB_URI", "").strip():
        return os.environ
    try:
        # Deferred: the image does not contain this package.
        from portfolio.devserver.data_folder import local_environment  # noqa: PLC0415
    except ImportError:
        return os.environ
    given = {name: value for name, value in os.environ.items() if value.strip()}
    return local_environment() | given


@contextmanager
def database_errors(budget_s: float | None = None) -> Iterator[None]:
    """End the command with the reason if the database calls in the block fail.

    They may take ``budget_s`` seconds; by default those of a request.
    """
    try:
        with nullcontext() if budget_s is None else budget(budget_s):
            yield
    except (PortfolioError, PyMongoError) as error:
        cause = (isinstance(error, PortfolioError) and error.__cause__) or error
        message = describe(cause)
        if is_unreachable(cause):
            message = f"{services().database.explain(cause)} Check MONGODB_URI."
        elif isinstance(error, PortfolioError):
            message = f"{error.detail} ({message})"
        raise click.ClickException(message) from error


def print_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print ``rows`` in columns under ``header``; rows of empty cells are left out."""
    lines = [tuple(map(str, row)) for row in (header, *rows) if any(row)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def progress_bar(length: int | None, label: str) -> Any:
    """Return a progress bar on stderr, hidden if that is no terminal or ``length`` is None."""
    hidden = length is None or not sys.stderr.isatty()
    return click.progressbar(length=length or 0, label=label, hidden=hidden, file=sys.stderr)
