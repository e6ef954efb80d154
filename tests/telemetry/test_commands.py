"""``flask`` in a container: what an operator is told, and what nobody may be told."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from portfolio.cli.config import failure_reason
from portfolio.devserver.mongod import Mongod
from portfolio.devserver.processes import free_port
from tests.support.collector import Collector
from tests.support.gunicorn import Gunicorn, wait_until
from tests.telemetry.conftest import PROTOCOLS, two_workers


@pytest.fixture(scope="module")
def gunicorn(replica_set: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """A service whose workers have both reached the database, for all tests that need one."""
    with two_workers(tmp_path_factory.mktemp("commands"), replica_set.uri) as gunicorn:
        yield gunicorn


@pytest.fixture
def container(tmp_path: Path, replica_set: Mongod, database_name: str) -> Callable[..., Gunicorn]:
    """The surroundings of a service that need not run: ``container(VARIABLE=value).flask(...)``."""

    def make(mongodb_uri: str = replica_set.uri, **environment: str) -> Gunicorn:
        return Gunicorn(tmp_path, mongodb_uri, {"MONGODB_DB": database_name, **environment})

    return make


def test_the_database_is_pinged_looked_at_and_filled(gunicorn: Gunicorn) -> None:
    assert "replica set, MongoDB 6.0.5" in gunicorn.flask("db", "ping").stdout
    seeded = gunicorn.flask("db", "seed", "120")
    assert seeded.stdout.endswith("120 portfolios created\n"), seeded.stderr
    listed = requests.get(f"{gunicorn.url}/api/v1/portfolios", timeout=10).json()
    assert len({portfolio["name"] for portfolio in listed}) == 120
    assert "newest_first" in gunicorn.flask("db", "indexes").stdout
    assert "120" in gunicorn.flask("db", "stats").stdout


def test_production_is_not_filled_by_mistake(container: Callable[..., Gunicorn]) -> None:
    result = container(ENVIRONMENT="production").flask("db", "seed")
    assert result.returncode == 1
    assert "add --yes" in result.stderr


def test_a_database_that_is_away_is_named_without_its_password(
    container: Callable[..., Gunicorn], tmp_path: Path
) -> None:
    uri = f"mongodb://app:hunter2@127.0.0.1:{free_port()}"
    surroundings = container(uri, REQUEST_TIMEOUT_MS="100")
    result = surroundings.flask("db", "ping")
    assert result.returncode == 1
    assert result.stderr.startswith("Error: MongoDB at ")
    file = tmp_path / "all.ndjson"
    file.write_text('{"name": "Growth"}\n')
    # An index or a bulk may take long; their commands do not wait as long for a server.
    for command in (
        "db indexes",
        "portfolios find x",
        *(f"portfolios {way} {file}" for way in ("import", "export")),
    ):
        assert surroundings.flask(*command.split()).stderr == result.stderr
    assert file.read_text() == '{"name": "Growth"}\n'
    shown = surroundings.flask("config", "show").stdout
    assert "mongodb://app:***@127.0.0.1" in shown
    assert "hunter2" not in shown + result.stdout + result.stderr


def test_config_show_tells_where_each_value_comes_from(container: Callable[..., Gunicorn]) -> None:
    lines = container().flask("config", "show").stdout.splitlines()
    by_variable = {line.split()[0]: line for line in lines}
    assert "default, development" in by_variable["LOG_LEVEL"]
    assert "environment" in by_variable["MONGODB_DB"]


def test_config_show_shows_no_secret(container: Callable[..., Gunicorn]) -> None:
    lines = (
        container(
            "mongodb://app:hunter2@h:1/?authMechanism=MONGODB-AWS"
            "&authMechanismProperties=AWS_SESSION_TOKEN:hunter2&tls=false",
            API_KEYS="one://hunter2,two",
            CURSOR_SECRET="hunter2",
            OTEL_EXPORTER_OTLP_ENDPOINT="http://otel:hunter2@c:4318",
            OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="otel:hunter2@c:4318",
            OTEL_EXPORTER_OTLP_HEADERS="authorization=hunter2",
        )
        .flask("config", "show")
        .stdout.splitlines()
    )
    values = {line.split()[0]: line.split()[1] for line in lines}
    assert "hunter2" not in "".join(lines)
    assert values["MONGODB_URI"] == (
        "mongodb://app:***@h:1/?authMechanism=MONGODB-AWS&authMechanismProperties=***&tls=false"
    )
    assert values["API_KEYS"] == values["CURSOR_SECRET"] == "***"
    assert values["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://otel:***@c:4318"
    assert values["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"] == "otel:***@c:4318"
    assert values["OTEL_EXPORTER_OTLP_HEADERS"] == "***"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_telemetry_check_does_not_give_the_collectors_password_away(
    protocol: str, container: Callable[..., Gunicorn]
) -> None:
    port = free_port()
    result = container(
        OTEL_SDK_DISABLED="false",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://otel:hunter2@127.0.0.1:{port}",
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
    ).flask("telemetry", "check")
    assert result.stdout.count(f" http://otel:***@127.0.0.1:{port}") == 2
    assert "hunter2" not in result.stdout + result.stderr


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_telemetry_check_sends_a_metric_and_a_span(
    protocol: str, container: Callable[..., Gunicorn]
) -> None:
    collector = Collector()
    address = collector.start_grpc() if protocol == "grpc" else collector.start_http()
    result = container(
        OTEL_SDK_DISABLED="false",
        OTEL_EXPORTER_OTLP_ENDPOINT=address,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
    ).flask("telemetry", "check")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("accepted") == 2
    assert collector.total("portfolio_telemetry_check_seconds") > 0
    assert "portfolio.telemetry_check" in {span.name for span in collector.spans}
    collector.stop()


def test_headers_and_compression_are_as_the_environment_says(
    collector: Collector, container: Callable[..., Gunicorn]
) -> None:
    result = container(
        OTEL_SDK_DISABLED="false",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.address,
        OTEL_EXPORTER_OTLP_HEADERS="x-tenant=globeco",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
    ).flask("telemetry", "check")
    assert result.returncode == 0, result.stdout
    assert {headers["x-tenant"] for headers in collector.headers} == {"globeco"}
    assert {headers["content-encoding"] for headers in collector.headers} == {"gzip"}
    assert "globeco" not in result.stdout


@pytest.mark.slow
def test_telemetry_check_tells_why_nothing_arrives(container: Callable[..., Gunicorn]) -> None:
    result = container(
        ENVIRONMENT="production",  # where tracing is off
        OTEL_SDK_DISABLED="false",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"127.0.0.1:{free_port()}",
    ).flask("telemetry", "check")
    assert result.returncode == 1
    assert "Connection refused" in result.stdout
    assert "retrying" not in result.stdout
    _, traces = result.stdout.splitlines()
    assert re.search(r"[^.; ] \(switched off\)$", traces), traces


@pytest.mark.parametrize(
    ("logged", "reason"),
    [
        (
            "Transient error refused encountered while exporting span batch, retrying in 0.81s.",
            "Transient error refused encountered while exporting span batch",
        ),
        (
            "Transient error UNAVAILABLE encountered while exporting traces to http://c:4317,"
            " retrying in 1.20s. Error details: failed to connect",
            "Transient error UNAVAILABLE encountered while exporting traces to http://c:4317."
            " Error details: failed to connect",
        ),
    ],
)
def test_the_reason_of_a_failed_export_does_not_announce_a_retry(logged: str, reason: str) -> None:
    messages = [logged, "what follows tells of retries"]
    assert failure_reason([logging.makeLogRecord({"msg": each}) for each in messages]) == reason


def test_a_log_line_has_every_field_and_stays_one_line(gunicorn: Gunicorn) -> None:
    requests.get(
        f"{gunicorn.url}/api/v1/portfolio/%0A%0D", headers={"X-Request-ID": "line"}, timeout=10
    )

    def written() -> list[dict[str, Any]]:
        return [line for line in gunicorn.log_lines() if line["request_id"] == "line"]

    (line,) = wait_until(written, "the request's line")
    fields = {"ts", "level", "msg", "logger", "service", "request_id", "trace_id", "span_id", "pid"}
    assert fields <= line.keys()
    assert line["path"] == "/api/v1/portfolio/\n\r"
    assert line["endpoint"] == "/api/v1/portfolio/{portfolio_id}"
