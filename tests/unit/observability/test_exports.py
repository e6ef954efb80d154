"""Metrics are exported at each interval, whatever happens to one export."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from portfolio.config import Settings
from portfolio.observability.metrics import Metrics
from portfolio.observability.registry import METRICS
from portfolio.observability.sdk import Telemetry, interval_s
from tests.support.collector import Collector
from tests.support.gunicorn import wait_until
from tests.support.parts import mongomock_app

SPECIFIED = "OTEL_METRIC_EXPORT_INTERVAL"
OWN = "OTEL_METRICS_EXPORT_INTERVAL_SECONDS"
# No request, no bulk and no command yet.
NOT_YET = {
    "http.request.duration",
    "portfolio.bulk_operation.duration",
    "mongodb.operation.duration",
}


class Recorder(Collector):
    """A collector that keeps the names of each export, and accepts or refuses it."""

    def __init__(self) -> None:
        super().__init__()
        self.status = 200
        self.sent: list[set[str]] = []

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        (exported,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
        self.sent.append({metric.name for metric in exported.scope_metrics[0].metrics})
        return self.status, b""


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    recorder = Recorder()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", recorder.start_http())
    yield recorder
    recorder.stop()


@pytest.fixture
def metrics() -> Metrics:
    found: Metrics = mongomock_app(OTEL_SDK_DISABLED="true").extensions["portfolio"].metrics
    return found


@pytest.fixture
def start(
    metrics: Metrics, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Telemetry]]:
    """Export every 10 ms, by the variable of the specification."""
    monkeypatch.setenv(SPECIFIED, "10")
    started = []

    def start() -> Telemetry:
        settings = Settings.from_environment({"ENABLE_TRACING": "off"})
        started.append(Telemetry(settings, metrics, None))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, 10.0),
        ({SPECIFIED: "2500"}, 2.5),
        ({SPECIFIED: "2500", OWN: "4"}, 4.0),
        ({SPECIFIED: "0"}, 10.0),
        ({SPECIFIED: "-5"}, 10.0),
        ({SPECIFIED: "soon"}, 10.0),
        ({SPECIFIED: ""}, 10.0),
    ],
)
def test_the_interval_is_the_services_own_or_that_of_the_specification(
    given: dict[str, str], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (SPECIFIED, OWN):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert interval_s(Settings.from_environment(given)) == seconds


def test_all_that_has_a_value_is_exported_at_each_interval(
    start: Callable[..., Telemetry], recorder: Recorder
) -> None:
    start()
    wait_until(lambda: len(recorder.sent) > 2, "three exports", 5)
    assert recorder.sent[-1] == {each.name for each in METRICS} - NOT_YET


def test_exports_that_fail_open_their_breaker_and_the_last_is_sent_in_spite_of_it(
    start: Callable[..., Telemetry], recorder: Recorder, metrics: Metrics
) -> None:
    recorder.status = 400
    telemetry = start()
    (breaker,) = (each for each in metrics.breakers if each.name == "telemetry_metrics")
    wait_until(lambda: breaker.state == "open", "the breaker opens", 5)
    wait_until(lambda: breaker.outcomes["refused"] > 2, "later exports are not tried", 5)
    assert len(recorder.sent) == 2

    recorder.status = 200
    telemetry.stop()
    assert len(recorder.sent) == 3
    assert breaker.state == "closed"


def test_a_value_that_cannot_be_read_is_logged_and_costs_no_other_metric(
    start: Callable[..., Telemetry],
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lost = {"process.open_file_descriptor.count"}
    listdir = os.listdir

    def fail(path: str) -> list[str]:
        if path == "/dev/fd":
            raise OSError("too many open files")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", fail)
    start()
    wait_until(lambda: len(recorder.sent) > 2, "exports", 5)
    monkeypatch.undo()
    assert recorder.sent[-1] == {each.name for each in METRICS} - NOT_YET - lost
    logged = {(record.message, vars(record)["metric"]) for record in caplog.records}
    assert logged == {("metric not read", *lost)}
    assert "too many open files" in caplog.text
