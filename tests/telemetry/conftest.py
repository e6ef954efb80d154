"""What the tests of telemetry share: a receiver, and a service that exports to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from portfolio.devserver.mongod import Mongod
from tests.support.collector import Collector
from tests.support.gunicorn import Gunicorn, running, wait_until

# Both ways to export, where one of them is enough for everyday tests.
PROTOCOLS = ["http/protobuf", pytest.param("grpc", marks=pytest.mark.slow)]

# What makes telemetry arrive soon, and a service end soon.
QUICK = {
    "OTEL_SDK_DISABLED": "false",
    "OTEL_METRICS_EXPORT_INTERVAL_SECONDS": "0.5",
    "OTEL_BSP_SCHEDULE_DELAY": "200",
    "DRAIN_SECONDS": "1",
}


@contextmanager
def exporting(
    folder: Path, mongodb_uri: str, **environment: str
) -> Iterator[tuple[Gunicorn, Collector]]:
    """Run a service beside a receiver of its own, for several tests to look at what arrived.

    Args:
        folder: for its files.
        mongodb_uri: its MongoDB.
        environment: its variables.
    """
    collector = Collector()
    endpoint = collector.start_http()
    variables = QUICK | {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "MONGODB_DB": folder.name}
    try:
        with running(folder, mongodb_uri, **variables | environment) as gunicorn:
            yield gunicorn, collector
    finally:
        collector.stop()


@contextmanager
def two_workers(folder: Path, mongodb_uri: str, **environment: str) -> Iterator[Gunicorn]:
    """Run a service whose workers have both reached the database, for several tests to use.

    Args:
        folder: for its files; its database has the same name.
        mongodb_uri: its MongoDB.
        environment: its variables.
    """
    variables = {"MONGODB_DB": folder.name, "DRAIN_SECONDS": "1", **environment}
    with running(folder, mongodb_uri, **variables) as gunicorn:

        def complete() -> bool:
            found = requests.get(f"{gunicorn.url}/health/detailed", timeout=10)
            return found.status_code == 200 and len(found.json()["workers"]) == 2

        wait_until(complete, "both workers are healthy")
        yield gunicorn


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A receiver that listens for OTLP over HTTP."""
    collector = Collector()
    collector.start_http()
    yield collector
    collector.stop()


@pytest.fixture
def export(
    serve: Callable[..., Gunicorn], replica_set: Mongod, database_name: str
) -> Callable[..., Gunicorn]:
    """Start a service that exports: ``export("127.0.0.1:4318", VARIABLE=value)``, and is ready."""

    def start(endpoint: str, **environment: str) -> Gunicorn:
        gunicorn = serve(
            replica_set.uri,
            **QUICK
            | {"MONGODB_DB": database_name, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
            | environment,
        )
        gunicorn.wait_ready()
        return gunicorn

    return start


class Script:
    """Sends requests and keeps count of them as the service should.

    Args:
        url: where the service is.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.sent: Counter[tuple[str, str, str]] = Counter()

    def send(self, method: str, path: str, endpoint: str, **options: object) -> requests.Response:
        """Send one request, on a connection of its own.

        Args:
            method: the HTTP method.
            path: where to.
            endpoint: what the service should count it under.
            options: as for ``requests.request``.
        """
        response = requests.request(method, self.url + path, timeout=10, **options)
        self.sent[method, endpoint, str(response.status_code)] += 1
        return response

    def mix(self) -> None:
        """Send one request of each kind: served, refused by a rule, by Flask, by routing."""
        one = "/api/v1/portfolio/{portfolio_id}"
        created = self.send("POST", "/api/v1/portfolios", "/api/v1/portfolios", json={"name": "A"})
        identity = created.json()["portfolioId"]
        self.send("GET", f"/api/v1/portfolio/{identity}", one)
        self.send("GET", "/api/v1/portfolio/unknown", one)
        self.send("DELETE", f"/api/v1/portfolio/{identity}?version=1", one)
        self.send("POST", "/api/v1/portfolios", "/api/v1/portfolios", json={})
        self.send("POST", "/api/v1/portfolios", "/api/v1/portfolios", data="x" * 2_000_000)
        self.send("POST", "/api/v2/portfolios", "/api/v2/portfolios", json=[{"name": "B"}])
        self.send("GET", "/api/v2/portfolios?name=B", "/api/v2/portfolios")
        self.send("POST", "/api/v2/portfolios", "/api/v2/portfolios", json=[])
        self.send("GET", "/health", "/health")
        self.send("GET", "/nowhere/at/all", "unmatched")
        self.send("PATCH", "/api/v1/portfolios", "unmatched")
