"""When MongoDB is pinged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect

from portfolio.config import Settings
from portfolio.storage import health_monitor
from portfolio.storage.connection import PING_TIMEOUT_S, Connection
from portfolio.storage.health_monitor import HealthMonitor
from tests.support.gunicorn import wait_until

INTERVAL_S = 0.1


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_monitor, "PING_INTERVAL_S", INTERVAL_S)


@contextmanager
def monitoring(pings: list[float], failures: int = 0) -> Iterator[HealthMonitor]:
    class Pinged(Connection):
        def ping(self, timeout_s: float = PING_TIMEOUT_S) -> float:
            pings.append(time.monotonic())
            if len(pings) <= failures:
                raise AutoReconnect("refused")
            return 1.0

    connection = Pinged(Settings.from_environment({}), MongoClient)
    monitor = HealthMonitor(connection, lambda: None)
    monitor.start()
    try:
        yield monitor
    finally:
        monitor.stop()


def test_mongodb_is_pinged_at_intervals_while_nothing_else_calls_it() -> None:
    pings: list[float] = []

    with monitoring(pings):
        wait_until(lambda: len(pings) >= 3, "two more pings have followed the first")


def test_the_end_of_an_outage_is_logged_where_the_outage_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monitoring([], failures=1) as monitor:
        wait_until(lambda: monitor.reachable, "the second ping has succeeded")
    with monitoring([]) as monitor:
        wait_until(lambda: monitor.reachable, "the first ping has succeeded")

    logged = [(each.levelname, each.msg) for each in caplog.records if "answers" in each.msg]
    assert logged == [("WARNING", "MongoDB answers")], "at LOG_LEVEL=WARNING, as in production"


def test_no_ping_is_sent_while_other_calls_succeed() -> None:
    pings: list[float] = []

    with monitoring(pings) as monitor:
        until = time.monotonic() + 10 * INTERVAL_S
        while time.monotonic() < until:
            monitor.last_success = time.monotonic()
            time.sleep(INTERVAL_S / 20)
        sent_meanwhile = len(pings)
        wait_until(lambda: len(pings) > sent_meanwhile, "a ping follows the last call")

    assert sent_meanwhile <= 2, "more than the first ping, and one that a slow machine may add"
