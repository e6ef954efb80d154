"""``flask config`` and ``flask telemetry``: the settings, and the collector that they name."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Sequence
from logging.handlers import BufferingHandler
from typing import Any

import click
from flask.cli import AppGroup

from portfolio.api.services import services
from portfolio.cli.helpers import cli_environment, print_table
from portfolio.config import settings_fields
from portfolio.redaction import redact, redact_in, redact_uri

_EXPORT_TIMEOUT_S = 5.0

config = AppGroup("config", help="Show the configuration.")
telemetry = AppGroup("telemetry", help="Check the export of telemetry.")


@config.command("show")
def show_config() -> None:
    """Show every setting, its source and its meaning; secrets are redacted."""
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
        (name, redact(name, value), "environment", "OpenTelemetry")
        for name, value in sorted(os.environ.items())
        if name.startswith("OTEL_") and name not in known
    ]
    print_table(("variable", "value", "source", "meaning"), rows)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


@telemetry.command("check")
def check_telemetry() -> None:
    """Send one metric and one span to the collector and report the result."""
    settings = services().settings
    if settings.otel_sdk_disabled:
        raise click.ClickException("OTEL_SDK_DISABLED is set: nothing is exported.")
    # Deferred: other commands need no OpenTelemetry.
    from portfolio.observability import otlp, sdk  # noqa: PLC0415

    failed = False
    for signal in ("metrics", "traces"):
        messages = BufferingHandler(sys.maxsize)
        logging.getLogger("opentelemetry").handlers = [messages]
        begun = time.perf_counter()
        sent = sdk.check(signal, settings, _EXPORT_TIMEOUT_S)
        took_ms = (time.perf_counter() - begun) * 1000
        destination = f"{otlp.endpoint(signal)} ({otlp.protocol(signal)})"
        reason = redact_in(failure_reason(messages.buffer), destination)
        outcome = f"accepted in {took_ms:.0f} ms" if sent else f"FAILED: {reason}"
        note = "" if signal in settings.signals else " (switched off)"
        click.echo(f"{signal:8} {redact_uri(destination)}: {outcome}{note}")
        failed |= not sent
    if failed:
        sys.exit(1)


def failure_reason(records: Sequence[logging.LogRecord]) -> str:
    """Return why an export failed: the first message, without its announcement of a retry."""
    first = records[0].getMessage() if records else ""
    return re.sub(r",? retrying in [\d.]+ ?s\b", "", first).rstrip(". ")
