"""A start imports what every process needs, and nothing that few do: a pod has 0.2 CPU for it."""

from __future__ import annotations

from tests.support.imports import imported_by

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
    imported = imported_by(
        "import runpy\n"
        "import gunicorn.app.wsgiapp\n"
        "runpy.run_path('gunicorn.conf.py')\n"
        "import portfolio.server.worker, wsgi",
        PORTFOLIO_SERVICE_ENV="production",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://otel-collector:4318",
    )
    assert "portfolio.observability.otlp" in imported
    assert not imported & DEFERRED
