"""The collector of telemetry fails, under load: no request pays for it; later it hears again."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from portfolio.devserver.mongod import Mongod
from portfolio.devserver.processes import free_port
from tests.faults.conftest import StartDrill
from tests.support.collector import Collector
from tests.support.gunicorn import Gunicorn, wait_until

pytestmark = pytest.mark.slow

# The breaker that guards exports tries again every 30 s at least.
_EXPORT_S = 60.0


class BadCollector(Collector):
    """Answers 500, or never, until it is well.

    Args:
        hangs: whether it never answers.
    """

    def __init__(self, *, hangs: bool) -> None:
        super().__init__()
        self.hangs = hangs
        self.well = threading.Event()

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        if self.hangs:
            self.well.wait()
        return super().answer(path, body) if self.well.is_set() else (500, b"")


def exporting(port: int) -> dict[str, str]:
    """Return what makes a service export everything, often, to a port of the loopback interface."""
    return {
        "OTEL_SDK_DISABLED": "false",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_METRICS_EXPORT_INTERVAL_SECONDS": "1",
        "OTEL_METRICS_EXPORT_TIMEOUT_SECONDS": "5",
        "CIRCUIT_BREAKER_RESET_SECONDS": "3",
    }


@pytest.mark.parametrize("fault", ["dead", "hung", "answering 500"])
def test_requests_do_not_pay_for_a_bad_collector(
    mongod: Mongod, serve: Callable[..., Gunicorn], drill: StartDrill, fault: str
) -> None:
    collector = BadCollector(hangs=fault == "hung")
    port = free_port()
    if fault != "dead":
        collector.start_http(port)
    service = serve(mongod.uri, **exporting(port))
    with drill(f"collector {fault}", [service], mongod.uri, rate=100) as under_load:
        under_load.run_for(8)
        collector.well.set()
        if fault == "dead":
            collector.start_http(port)
        wait_until(
            lambda: collector.total("http_requests_total") > 0, "metrics arrive again", _EXPORT_S
        )
    collector.stop()
    assert under_load.ledger.failed == []
