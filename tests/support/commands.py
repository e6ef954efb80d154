"""``flask portfolios``, in this process or as one of its own: piped, killed, run beside others."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from click.testing import Result
from flask import Flask

from portfolio.config import Settings
from tests.support.gunicorn import ROOT

_PROGRAM = "from flask.cli import main; main()"
_TIMEOUT_S = 120.0


def run(app: Flask, *given: Any) -> Result:
    """Run ``flask portfolios`` in this process."""
    return app.test_cli_runner().invoke(args=["portfolios", *map(str, given)])


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that lead a command to the database of ``settings``."""
    return {
        "PATH": os.environ["PATH"],
        "MONGODB_URI": settings.mongodb_uri,
        "MONGODB_DB": settings.mongodb_db,
        "PORTFOLIO_RUNTIME_DIR": settings.runtime_dir,
        "OTEL_SDK_DISABLED": "true",
        # A process whose files are limited in size would leave half a module for the others.
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def arguments(*given: Any, program: str = _PROGRAM) -> list[str]:
    """Return the command line of ``flask portfolios`` with what is given."""
    return [sys.executable, "-c", program, "--app", "wsgi", "portfolios", *map(str, given)]


def start_process(settings: Settings, *given: Any, **options: Any) -> subprocess.Popen[bytes]:
    """Start ``flask portfolios``; to be waited for with ``communicate``."""
    return subprocess.Popen(
        arguments(*given),
        cwd=ROOT,
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def run_process(
    settings: Settings, *given: Any, program: str = _PROGRAM, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run ``flask portfolios``, or ``program`` in its place, to its end."""
    options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
    if options["stdin"] is None:
        del options["stdin"]
    return subprocess.run(
        arguments(*given, program=program),
        cwd=ROOT,
        env=environment(settings),
        capture_output=True,
        timeout=_TIMEOUT_S,
        check=False,
        **options,
    )


def run_script(settings: Settings, script: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script of bash in which ``portfolios`` is the command."""
    quoted = " ".join(f"'{word}'" for word in arguments())
    return subprocess.run(
        ["bash", "-c", f'portfolios() {{ {quoted} "$@"; }}\n{script}'],
        cwd=ROOT,
        env=environment(settings),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=_TIMEOUT_S,
        check=False,
    )
