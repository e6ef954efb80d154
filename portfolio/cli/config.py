"""``flask config``: the settings and their sources."""

from __future__ import annotations

import os
from typing import Any

from flask.cli import AppGroup

from portfolio.api.services import services
from portfolio.cli.helpers import cli_environment, print_table
from portfolio.config import settings_fields
from portfolio.redaction import redact

config = AppGroup("config", help="The configuration.")


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
