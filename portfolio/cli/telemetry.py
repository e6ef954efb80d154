"""``flask telemetry``: test the connection to the OpenTelemetry collector."""

from __future__ import annotations

import logging
import re
import sys
import time

import click
from flask.cli import AppGroup

from portfolio.api.services import services
from portfolio.redaction import redact_in, redact_uri

_TIMEOUT_S = 5.0

telemetry = AppGroup("telemetry", help="OpenTelemetry.")


@telemetry.command("check")
def check_telemetry() -> None:
    """Send one metric and one span to the collector and report the result."""
    settings = services().settings
    if settings.otel_sdk_disabled:
        raise click.ClickException("OTEL_SDK_DISABLED is set: nothing is exported.")
    # Deferred: other commands need no OpenTelemetry.
    from portfolio.observability import otlp, sdk  # noqa: PLC0415

    failed = False
    for signal, enabled in (
        ("metrics", settings.enable_metrics),
        ("traces", settings.enable_tracing),
    ):
        messages = FirstMessage()
        logging.getLogger("opentelemetry").handlers = [messages]
        begun = time.perf_counter()
        sent = sdk.check(signal, settings, _TIMEOUT_S)
        took_ms = (time.perf_counter() - begun) * 1000
        destination = f"{otlp.endpoint(signal)} ({otlp.protocol(signal)})"
        reason = redact_in(messages.reason, destination)
        outcome = f"accepted in {took_ms:.0f} ms" if sent else f"FAILED: {reason}"
        note = "" if enabled else " (switched off in this profile)"
        click.echo(f"{signal:8} {redact_uri(destination)}: {outcome}{note}")
        failed |= not sent
    if failed:
        sys.exit(1)


class FirstMessage(logging.Handler):
    """Keeps the first logged message: later ones are about retries."""

    first = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message of ``record`` if it is the first."""
        self.first = self.first or record.getMessage()

    @property
    def reason(self) -> str:
        """Why the export failed, without the announcement of a retry: there is none."""
        return re.sub(r",? retrying in [\d.]+ ?s\b", "", self.first).rstrip(". ")
