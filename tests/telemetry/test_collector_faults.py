"""Whatever the collector does, no request notices, and no log fills up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from portfolio.devserver.processes import free_port
from portfolio.observability.logging import AtIntervals
from portfolio.observability.otlp import GuardedExporter
from tests.support.collector import Collector
from tests.support.gunicorn import Gunicorn, wait_until
from tests.telemetry.conftest import Script

SLOW = pytest.mark.slow


class FaultyCollector(Collector):
    """A receiver that hangs, cuts connections, or answers 500.

    Args:
        fault: ``hangs``, ``resets``, ``fails`` or ``is absent``.
    """

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.asked = 0
        self.released = threading.Event()

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        self.asked += 1
        if self.fault == "hangs":
            self.released.wait(60)
        return (500, b"") if self.fault == "fails" else (0, b"")


@pytest.fixture(
    params=[
        "hangs",
        *(pytest.param(fault, marks=SLOW) for fault in ("is absent", "resets", "fails")),
    ]
)
def faulty(request: pytest.FixtureRequest) -> Iterator[FaultyCollector]:
    """A receiver of each kind of fault."""
    collector = FaultyCollector(request.param)
    if collector.fault == "is absent":
        collector.address = f"127.0.0.1:{free_port()}"
    else:
        collector.start_http()
    yield collector
    collector.released.set()
    collector.stop()


def test_requests_are_served_logs_stay_quiet_and_shutdown_is_not_held_up(
    faulty: FaultyCollector, export: Callable[..., Gunicorn]
) -> None:
    gunicorn = export(faulty.address, OTEL_METRICS_EXPORT_INTERVAL_SECONDS="0.1")
    sender = Script(gunicorn.url)
    if faulty.fault != "is absent":
        wait_until(lambda: faulty.asked, "something is exported")
    for _ in range(5):
        sender.mix()
    assert {status for _, _, status in sender.sent} & {"500", "503"} == set()
    assert gunicorn.stop(timeout_s=20) == 0

    for worker in {line["pid"] for line in gunicorn.log_lines()}:
        complaints = [
            line
            for line in gunicorn.log_lines()
            if line["pid"] == worker and line["logger"].startswith("opentelemetry")
        ]
        assert len(complaints) <= 1, complaints


def test_a_collector_that_fails_is_left_alone_until_it_may_be_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Recovering(Collector):
        status = 400

        def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
            return self.status, b""

    collector = Recovering()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.start_http())
    exporter = GuardedExporter("traces")
    exporter.connect()
    try:
        assert [exporter.export([]) for _ in range(10)] == [False] * 10
        assert (len(collector.headers), exporter.breaker.state) == (2, "open")

        collector.status = 200
        exporter.breaker.half_open()
        assert exporter.export([])
        assert exporter.breaker.state == "closed"
    finally:
        exporter.shutdown()
        collector.stop()


def test_the_filter_lets_one_record_pass_in_its_time() -> None:
    record = logging.makeLogRecord({"msg": "export failed"})
    patient, impatient = AtIntervals(60), AtIntervals(0)
    assert [patient(record) for _ in range(3)] == [True, False, False]
    assert [impatient(record) for _ in range(3)] == [True, True, True]
