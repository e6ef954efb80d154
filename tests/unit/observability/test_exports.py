"""Metrics are exported at each interval, whatever happens to one export."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData

from portfolio.app import create_app
from portfolio.config import Settings
from portfolio.devserver.mongomock_client import MongomockClient
from portfolio.observability import otlp
from portfolio.observability.metrics import CacheStatistics, Metrics
from portfolio.observability.registry import METRICS
from portfolio.observability.sdk import Telemetry, interval_s
from tests.support.gunicorn import wait_until

SPECIFIED = "OTEL_METRIC_EXPORT_INTERVAL"
OWN = "OTEL_METRICS_EXPORT_INTERVAL_SECONDS"


class Recorder:
    """An exporter that keeps what it is given, and accepts or refuses it."""

    def __init__(self) -> None:
        self.result = MetricExportResult.SUCCESS
        self.sent: list[set[str]] = []

    def export(self, data: MetricsData) -> MetricExportResult:
        scope = data.resource_metrics[0].scope_metrics[0]
        self.sent.append({metric.name for metric in scope.metrics})
        return self.result


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(otlp, "exporter", lambda *_: recorder)
    return recorder


@pytest.fixture
def metrics() -> Metrics:
    settings = Settings.from_environment({"OTEL_SDK_DISABLED": "true"})
    app = create_app(settings, MongomockClient)
    found: Metrics = app.extensions["portfolio"].metrics
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


def state_of_exports(metrics: Metrics) -> str:
    (breaker,) = (each for each in metrics.breakers if each.name == "telemetry_metrics")
    return breaker.state


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
    # No bulk and no command yet, and no calls through a breaker before the first export.
    without = {"http.request.duration", "portfolio.bulk_operation.duration"}
    without |= {"mongodb.operation.duration"}
    assert recorder.sent[-1] == {each.name for each in METRICS} - without


def test_exports_that_fail_open_their_breaker_and_the_last_is_sent_in_spite_of_it(
    start: Callable[..., Telemetry], recorder: Recorder, metrics: Metrics
) -> None:
    recorder.result = MetricExportResult.FAILURE
    telemetry = start()
    wait_until(lambda: state_of_exports(metrics) == "open", "the breaker opens", 5)
    (breaker,) = (each for each in metrics.breakers if each.name == "telemetry_metrics")
    wait_until(lambda: breaker.outcomes["refused"] > 2, "later exports are not tried", 5)
    assert len(recorder.sent) == 2

    recorder.result = MetricExportResult.SUCCESS
    telemetry.stop()
    assert len(recorder.sent) == 3
    assert state_of_exports(metrics) == "closed"


def test_a_value_that_cannot_be_read_is_logged_and_costs_no_later_export(
    start: Callable[..., Telemetry],
    recorder: Recorder,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    read, failures = metrics.cache_statistics, [OSError("too many open files")]

    def fail_once() -> CacheStatistics:
        if failures:
            raise failures.pop()
        return read()

    monkeypatch.setattr(metrics, "cache_statistics", fail_once)
    start()
    wait_until(lambda: len(recorder.sent) > 2, "exports after it", 5)
    assert [record.message for record in caplog.records] == ["metrics not exported"]
    assert "too many open files" in caplog.text
    assert state_of_exports(metrics) == "closed"
