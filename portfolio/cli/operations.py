"""What an operator runs in a shell inside the container: ``flask db ping`` and the like."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import click
from flask import Flask
from flask.cli import AppGroup, with_appcontext
from pymongo.errors import PyMongoError

from portfolio.api.services import services
from portfolio.config import settings_fields
from portfolio.errors import PortfolioError
from portfolio.models import PortfolioCreate
from portfolio.observability.coordinator import ControlFile, WorkerCoordinator
from portfolio.observability.shared_state import State
from portfolio.redaction import redact, redact_uri
from portfolio.rules import MAX_BULK
from portfolio.storage.diagnosis import is_unreachable

_APPLY_TIMEOUT_S = 5.0
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_UNITS = {"s": 1, "m": 60, "h": 3600}
_LONGEST_S = 24 * 3600
_CHECK_TIMEOUT_S = 5.0

db = AppGroup("db", help="MongoDB: reach it, look at it, fill it.")
breakers = AppGroup("breakers", help="The circuit breakers of every worker.")
config = AppGroup("config", help="The configuration.")
telemetry = AppGroup("telemetry", help="OpenTelemetry.")


def register_commands(app: Flask) -> None:
    """Add every command to ``flask``."""
    for command in (db, breakers, config, telemetry, log_level):
        app.cli.add_command(command)


def cli_environment() -> Mapping[str, str]:
    """Return the variables to read the settings from.

    A command that runs in a checkout whose ``tox -e serve`` has a MongoDB of its own uses that one,
    unless ``MONGODB_URI`` names another. A server takes the environment as it is.
    """
    if click.get_current_context(silent=True) is None:  # not loaded by a flask command
        return os.environ
    if os.environ.get("MONGODB_URI", "").strip():
        return os.environ
    try:
        # Deferred: the image has no such package.
        from portfolio.devserver.data_folder import local_environment  # noqa: PLC0415
    except ImportError:
        return os.environ
    given = {name: value for name, value in os.environ.items() if value.strip()}
    return local_environment() | given


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in its stubs alone
    """A time span such as 30s, 5m or 2h, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Return ``value`` in seconds."""
        match = re.fullmatch(r"(\d+)([smh])", str(value))
        seconds = int(match[1]) * _UNITS[match[2]] if match else 0
        if not 0 < seconds <= _LONGEST_S:
            self.fail(f"{value!r} is not a time like 30s, 5m or 2h, of 24h at most", param, ctx)
        return float(seconds)


@db.command("ping")
def ping() -> None:
    """Ask MongoDB for an answer."""
    s = services()
    uri = redact_uri(s.settings.mongodb_uri)

    def ask() -> str:
        took_ms = s.database.ping()
        version = s.database.client.server_info()["version"]
        return f"{uri} answers in {took_ms:.1f} ms: {s.database.topology}, MongoDB {version}"

    click.echo(from_database(ask))


@db.command("indexes")
def indexes() -> None:
    """Create the indexes that are missing, and list all."""
    database = services().database
    from_database(database.ensure_indexes)
    found = from_database(database.portfolios.index_information)
    table(
        ("index", "keys"),
        (
            (name, ", ".join(f"{key} {order}" for key, order in index["key"]))
            for name, index in sorted(found.items())
        ),
    )


@db.command("stats")
def stats() -> None:
    """Show how much is stored."""
    database = services().database
    found = from_database(lambda: database.database.command("collStats", database.portfolios.name))
    rows = [
        ("portfolios", f"{found['count']:,}"),
        ("data", _mebibytes(found["size"])),
        ("on disk", _mebibytes(found["storageSize"])),
        ("indexes", _mebibytes(found["totalIndexSize"])),
    ]
    rows += [(f"  {name}", _mebibytes(size)) for name, size in sorted(found["indexSizes"].items())]
    table(("", ""), rows)


@db.command("seed")
@click.argument("count", default=20, type=click.IntRange(1, 1_000_000))
@click.option("--yes", is_flag=True, help="In production too.")
def seed(count: int, *, yes: bool) -> None:
    """Create COUNT example portfolios, or 20."""
    s = services()
    if s.settings.profile == "production" and not yes:
        raise click.ClickException("This is production: add --yes if you mean it.")
    with click.progressbar(length=count, label="Creating", show_pos=True) as bar:
        for first in range(0, count, MAX_BULK):
            numbers = range(first + 1, min(first + MAX_BULK, count) + 1)
            bulk = [PortfolioCreate(f"Example {number:05}") for number in numbers]
            from_database(partial(s.portfolios.create_all, bulk))
            bar.update(len(bulk))
    click.echo(f"{count} portfolios created")


@breakers.command("list")
def list_breakers() -> None:
    """Show every breaker of every worker."""
    rows = [
        (name, worker["pid"], breaker["state"], breaker["failure_count"], breaker["refused"])
        for worker in _workers(_coordinator())
        for name, breaker in worker["circuit_breakers"].items()
    ]
    table(("breaker", "worker", "state", "failures", "refused"), sorted(rows))


@breakers.command("reset")
@click.argument("name")
def reset_breaker(name: str) -> None:
    """Close the breaker NAME in every worker, whatever it has seen."""
    coordinator = _coordinator()
    known = {known for worker in _workers(coordinator) for known in worker["circuit_breakers"]}
    if name not in known:
        raise click.ClickException(
            f"There is no breaker {name!r}; there is {', '.join(sorted(known)) or 'none'}."
        )
    _await_workers(coordinator, lambda control: control.reset_breaker(name))


@click.command("log-level")
@click.argument("level", required=False, type=click.Choice(_LEVELS, case_sensitive=False))
@click.option("--for", "seconds", type=Duration(), default="15m", help="30s, 5m, 2h; 15m.")
@with_appcontext
def log_level(level: str | None, seconds: float) -> None:
    """Log from LEVEL up in every worker, for a time; without LEVEL, show what is logged now."""
    coordinator = _coordinator()
    if level is None:
        table(
            ("worker", "level"),
            ((worker["pid"], worker["log_level"]) for worker in _workers(coordinator)),
        )
        return
    _await_workers(coordinator, lambda control: control.set_log_level(level, seconds))


@config.command("show")
def show_config() -> None:
    """Show every setting, where its value comes from and what it means; secrets are masked."""
    settings = services().settings
    environment = cli_environment()
    rows: list[tuple[str, str, str, str]] = [
        ("profile", settings.profile, "environment or namespace", "development to production")
    ]
    for declared in settings_fields():
        variable = declared.metadata["variable"]
        if os.environ.get(variable, "").strip():
            source = "environment"
        elif environment.get(variable, "").strip():
            source = "tox -e serve"
        else:
            source = f"default, {settings.profile}"
        value = redact(variable, _text(getattr(settings, declared.name)))
        rows.append((variable, value, source, declared.metadata["help"]))
    known = {row[0] for row in rows}
    rows += [
        (name, redact(name, value), "environment", "OpenTelemetry's own")
        for name, value in sorted(os.environ.items())
        if name.startswith("OTEL_") and name not in known
    ]
    table(("variable", "value", "source", "meaning"), rows)


@telemetry.command("check")
def check_telemetry() -> None:
    """Send one metric and one span to the collector, and say what came back."""
    settings = services().settings
    if settings.otel_sdk_disabled:
        raise click.ClickException("OTEL_SDK_DISABLED is set: nothing is exported.")
    # Deferred: other commands need no OpenTelemetry.
    from portfolio.observability import telemetry_check as probe  # noqa: PLC0415

    failed = False
    for signal, switched_on, send in (
        ("metrics", settings.enable_metrics, probe.send_metric),
        ("traces", settings.enable_tracing, probe.send_span),
    ):
        complaints = _Complaints()
        logging.getLogger("opentelemetry").handlers = [complaints]
        begun = time.perf_counter()
        sent = send(settings, _CHECK_TIMEOUT_S)
        took_ms = (time.perf_counter() - begun) * 1000
        destination = probe.destination(signal)
        complaint = _without_password(complaints.reason, destination)
        outcome = f"accepted in {took_ms:.0f} ms" if sent else f"FAILED: {complaint}"
        note = "" if switched_on else " (switched off in this profile)"
        click.echo(f"{signal:8} {redact_uri(destination)}: {outcome}{note}")
        failed |= not sent
    if failed:
        sys.exit(1)


class _Complaints(logging.Handler):
    """Keeps the first thing that was logged: what follows tells of retries."""

    first = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()

    @property
    def reason(self) -> str:
        """Why sending failed, without the exporter's word that it will try again: it has ended."""
        return re.sub(r",? retrying in [\d.]+ ?s\b", "", self.first).rstrip(". ")


def from_database(call: Callable[[], Any]) -> Any:
    """Return what ``call`` returns, or end the command with what went wrong."""
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


def _coordinator() -> WorkerCoordinator:
    coordinator = services().coordinator
    try:
        coordinator.open()
    except OSError as error:
        raise click.ClickException(f"The workers' folder can't be opened: {error}") from error
    return coordinator


def _workers(coordinator: WorkerCoordinator) -> list[State]:
    workers = coordinator.others()
    if not workers:
        raise click.ClickException(
            f"No worker shows itself in {coordinator.folder}: does one run here?"
        )
    return workers


def _await_workers(coordinator: WorkerCoordinator, change: Callable[[ControlFile], int]) -> None:
    """Make a change to the control file and wait until every worker has applied it."""
    try:
        revision = change(coordinator.control)
    except OSError as error:
        raise click.ClickException(f"The control file can't be written: {error}") from error
    deadline = time.monotonic() + _APPLY_TIMEOUT_S
    while True:
        workers = _workers(coordinator)
        applied = sum(worker["applied_revision"] >= revision for worker in workers)
        if applied == len(workers):
            click.echo(f"Applied on {applied} of {len(workers)} workers")
            return
        if time.monotonic() > deadline:
            raise click.ClickException(f"Applied on only {applied} of {len(workers)} workers")
        time.sleep(0.05)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _without_password(complaint: str, uri: str) -> str:
    """Return ``complaint`` without the password of ``uri``, whole or in part.

    gRPC quotes the address that it can't reach, up to the first / of a password with one.
    """
    credentials = uri.partition("://")[2].rpartition("@")[0]
    password = credentials.partition(":")[2] or credentials
    for part in filter(None, re.split("[:/?#@]", password)):
        complaint = complaint.replace(part, "***")
    return complaint


def _mebibytes(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print ``rows`` in columns under ``header``; rows of nothing but empty cells are left out."""
    lines = [tuple(map(str, row)) for row in (header, *rows) if any(row)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
