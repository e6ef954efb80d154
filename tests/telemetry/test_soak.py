"""A soak: full load beside a collector that stalls, cuts and fails at random, for minutes.

Under gevent, OpenTelemetry's metrics have dead-locked: a greenlet that was switched away from while
it held the reader's lock left every later request waiting for it. Here each request is answered,
each count arrives in the end, the workers leave in order, and their memory stays flat.

SOAK_SECONDS (60) is how long it takes, SOAK_CLIENTS (8) how many send requests at once; ``tox -e
soak`` takes ten minutes.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import pytest
import requests

from tests.support.collector import Collector
from tests.support.gunicorn import Gunicorn, wait_until

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
CLIENTS = int(os.environ.get("SOAK_CLIENTS", "8"))
# Caches, pools and queues fill in the first minute, or in most of a short run.
WARM_UP_S = min(60.0, SECONDS * 0.75)
MOST_GROWTH_BYTES = 5 * 2**20
# A request that takes longer is stuck: the service's own deadline is 5 s.
STUCK_S = 15.0
# Until then the breaker of the exports has closed again, and an export came through.
RECOVERY_S = 120.0

Sent = Counter[tuple[str, str, str]]


class MoodyCollector(Collector):
    """A receiver that takes an export, stalls, cuts the connection or fails, at random."""

    def __init__(self) -> None:
        super().__init__()
        self.calm = threading.Event()
        self.refused = 0
        self._random = random.Random(4345)

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        mood = 0.0 if self.calm.is_set() else self._random.random()
        if mood > 0.7:
            self.refused += 1
        if mood > 0.9:
            self.calm.wait(self._random.uniform(0.5, 12))
            return 0, b""
        if mood > 0.8:
            return 0, b""
        if mood > 0.7:
            return 503, b""
        return super().answer(path, body)


@pytest.fixture
def moody() -> Iterator[MoodyCollector]:
    collector = MoodyCollector()
    collector.start_http()
    yield collector
    collector.calm.set()
    collector.stop()


def client(url: str, until: float) -> Sent:
    """Send requests one after the other until a moment; return how many, by what came of them."""
    sent: Sent = Counter()
    one, many = "/api/v1/portfolio/{portfolio_id}", "/api/v2/portfolios"
    with requests.Session() as session:
        created = session.post(f"{url}/api/v1/portfolios", json={"name": "Soak"}, timeout=STUCK_S)
        sent["POST", "/api/v1/portfolios", str(created.status_code)] += 1
        identity = created.json().get("portfolioId", "unknown")
        while time.monotonic() < until:
            for path, endpoint in (
                (f"/api/v1/portfolio/{identity}", one),
                ("/api/v2/portfolios?limit=5", many),
                ("/health/ready", "/health/ready"),
                ("/nowhere", "unmatched"),
            ):
                answer = session.get(url + path, timeout=STUCK_S)
                # A request that is shed is counted too, but not under its route.
                known = endpoint if answer.status_code != 503 else "503"
                sent["GET", known, str(answer.status_code)] += 1
    return sent


def memory(gunicorn: Gunicorn) -> int:
    """Return the resident bytes of all workers."""
    return sum(worker.memory_info().rss for worker in gunicorn.workers())


@pytest.mark.timeout(SECONDS + 300)
def test_under_load_nothing_sticks_grows_or_is_lost(
    moody: MoodyCollector, export: Callable[..., Gunicorn]
) -> None:
    gunicorn = export(
        moody.address,
        PORTFOLIO_SERVICE_ENV="production",
        ENABLE_TRACING="true",
        ENABLE_DATABASE_TRACING="true",
        METRICS_SAMPLE_RATE="0.5",
        OTEL_METRICS_EXPORT_INTERVAL_SECONDS="1",
        OTEL_BSP_SCHEDULE_DELAY="1000",
    )
    begun = time.monotonic()
    until = begun + SECONDS
    settled: list[int] = []
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, gunicorn.url, until) for _ in range(CLIENTS)]
        while time.monotonic() < until:
            time.sleep(min(1.0, SECONDS / 60))
            if time.monotonic() - begun > WARM_UP_S:
                settled.append(memory(gunicorn))
        sent = sum((each.result() for each in clients), Sent())

    served = {kind: count for kind, count in sent.items() if kind[1] != "503"}
    assert moody.refused, "the collector was in no mood at all"
    moody.calm.set()

    def arrived() -> dict[tuple[str, str, str], int]:
        return {
            (method, endpoint, status): int(
                moody.total(
                    "http_requests_total", method=method, endpoint=endpoint, status_code=status
                )
            )
            for method, endpoint, status in served
        }

    # Probes of the test's own set-up are counted too.
    def complete() -> bool:
        return all(
            count == served[kind] or kind[1] == "/health/ready" for kind, count in arrived().items()
        )

    wait_until(complete, f"every count arrives: {served}", RECOVERY_S)
    assert moody.total("http_requests_in_flight") == 0

    quarter = max(1, len(settled) // 4)
    growth = median(settled[-quarter:]) - median(settled[:quarter])
    print(  # noqa: T201  # for the record of the run
        f"{sent.total()} requests, {moody.refused} exports refused, {growth / 2**20:+.1f} MiB"
    )
    assert growth < MOST_GROWTH_BYTES, [f"{each / 2**20:.1f}" for each in settled]
    assert gunicorn.stop() == 0, "a worker had to be killed"
