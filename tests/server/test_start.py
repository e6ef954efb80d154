"""A start imports what every process needs, and nothing that few do: a pod has 0.2 CPU for it."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.gunicorn import ROOT

# Imported where they are needed: by a command, for the OpenAPI document, where requests are
# traced, for a collector over HTTPS.
DEFERRED = {
    "apispec",
    "grpc",
    "opentelemetry.instrumentation",
    "portfolio.cli.db",
    "portfolio.devserver",
    "requests",
    "urllib3",
    "yaml",
}


def test_a_server_in_production_imports_nothing_that_few_need() -> None:
    code = (
        "import runpy, sys\n"
        "import gunicorn.app.wsgiapp\n"
        "runpy.run_path('gunicorn.conf.py')\n"
        "import portfolio.server.worker, wsgi\n"
        "print(*sys.modules, sep='\\n')"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "PORTFOLIO_SERVICE_ENV": "production",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel-collector:4318",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    imported = set(done.stdout.split())
    assert "portfolio.observability.otlp" in imported
    assert not imported & DEFERRED
