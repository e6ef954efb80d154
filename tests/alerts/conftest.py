"""One outage for all tests to look at, and the table of it. It takes eight minutes of real time."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from portfolio.devserver.mongod import Mongod
from tests.alerts.exposition import Exposition, serve_text
from tests.alerts.monitoring import MONITORING, Alertmanager, Inbox, Prometheus
from tests.alerts.pods import Pod
from tests.deploy.conftest import expressions
from tests.support import tables
from tests.support.collector import Collector

PROGRAMS = ("prometheus", "prometheus-alertmanager")
TEMPLATES = Path("/usr/share/prometheus/alertmanager")
# The least number of production, and of development: with fewer, LowAvailability would fire.
PODS = {"production": 3, "development": 1}
# As in development. In production it is 60 s, which adds up to 50 s to each figure of the table.
EXPORT_INTERVAL_S = 10
# Who is told of what, and within how many seconds of MongoDB's end: the alert's window and `for`,
# an export, a scrape, an evaluation, the receiver's group_wait, and 5 s until the service notices.
EXPECTED = {
    ("production", "CircuitBreakerOpen"): ("level-1-on-call", 150),
    ("production", "HealthCheckFailing"): ("level-1-on-call", 220),
    ("production", "HighErrorRate"): ("level-1-on-call", 150),
    ("development", "CircuitBreakerOpen"): ("database-team", 170),
    ("development", "HealthCheckFailing"): ("devops-team", 240),
    ("development", "HighErrorRate"): ("devops-team", 170),
}
# Seconds after MongoDB's return: the longest window, of 5 minutes, as above, and group_interval.
RESOLVED_WITHIN_S = 420
_HEALTHY_S = 60.0
_DATA_WITHIN_S = 120.0
_COLUMNS = (
    "environment",
    "alert",
    "severity",
    "told",
    "s after the stop",
    "at most",
    "s to resolve",
)


class Outage(NamedTuple):
    """What was seen.

    Attributes:
        begun: when MongoDB was stopped, by the monotonic clock.
        ended: when it was back.
        inbox: what the receivers were told.
        healthy_alerts: what was critical before. Warnings are of durations, and those are the
            machine's.
        empty_panels: expressions of dashboards that had no data before, by dashboard.
        panels: how many expressions of dashboards there are.
    """

    begun: float
    ended: float
    inbox: Inbox
    healthy_alerts: set[tuple[str, str, str]]
    empty_panels: dict[str, list[str]]
    panels: int


def _cron_jobs() -> str:
    """What kube-state-metrics tells where backups and drills succeed."""
    now = time.time()
    return "".join(
        f'kube_cronjob_{metric}{{namespace="globeco",'
        f'cronjob="globeco-portfolio-service-mongodb-{job}"}} {now - age_s:.0f}\n'
        for job in ("backup", "restore-drill")
        for metric, age_s in (("created", 172_800), ("status_last_successful_time", 3600))
    )


def _without_data(prometheus: Prometheus) -> dict[str, list[str]]:
    return {
        path.stem: [each for each in expressions(path) if not prometheus.query(each)]
        for path in sorted(MONITORING.glob("dashboards/*.json"))
    }


@pytest.fixture(scope="session")
def outage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outage]:
    """MongoDB is stopped under four pods, and started again once all who should know do."""
    for program in PROGRAMS:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on PATH: `tox -e alerts` fetches it from Debian")
    if not (TEMPLATES / "email.tmpl").is_file():
        pytest.skip(f"Debian's Alertmanager does not start without its templates in {TEMPLATES}")
    folder = tmp_path_factory.mktemp("alerts")
    collector = Collector()
    otlp = collector.start_http()
    exposition = Exposition(collector, MONITORING / "collector" / "config.yaml")
    texts = {
        "otel-collector:8889": serve_text(exposition.render),
        "otel-collector:8888": serve_text(lambda: "otelcol_process_uptime 1\n"),
        "kube-state-metrics:8080": serve_text(_cron_jobs),
    }
    inbox = Inbox()
    alertmanager = Alertmanager(folder, inbox)
    targets = {target: server.address for target, server in texts.items()}
    prometheus = Prometheus(folder, targets, alertmanager.address)
    mongod = Mongod(folder / "mongod", replica_set="rs")
    pods = [
        Pod(f"{environment}-{i}", environment, folder, mongod.uri, otlp, EXPORT_INTERVAL_S)
        for environment, count in PODS.items()
        for i in range(count)
    ]
    try:
        mongod.start()
        mongod.initiate()
        alertmanager.start()
        prometheus.start()
        for pod in pods:  # one by one: together they take a busy machine longer than each may
            pod.start()
        yield _observe(prometheus, mongod, pods, inbox)
    finally:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Pod.stop, pods))
        mongod.stop()
        prometheus.stop()
        alertmanager.stop()
        for server in (*texts.values(), inbox, collector):
            server.stop()


def _observe(prometheus: Prometheus, mongod: Mongod, pods: list[Pod], inbox: Inbox) -> Outage:
    # A time of health for alerts to see an end of; the service is asked all the while.
    healthy_until = time.monotonic() + _HEALTHY_S
    empty: dict[str, list[str]] = {}

    def all_have_data() -> bool:
        empty.clear()
        empty.update(_without_data(prometheus))
        return not any(empty.values()) and time.monotonic() > healthy_until

    deadline = time.monotonic() + _DATA_WITHIN_S
    while not all_have_data() and time.monotonic() < deadline:
        time.sleep(1)
    healthy_alerts = prometheus.critical_alerts()

    mongod.stop()
    begun = time.monotonic()
    _await_all(inbox, "firing", set(EXPECTED), max(limit for _, limit in EXPECTED.values()))
    mongod.start()
    ended = time.monotonic()
    for pod in pods:
        if pod.environment == "production":
            # More clients come back: the share of errors falls before it leaves the window.
            pod.pause_s = 0.4
    paged = {key for key in EXPECTED if key[0] == "production"}
    _await_all(inbox, "resolved", paged, RESOLVED_WITHIN_S)
    count = sum(len(expressions(path)) for path in MONITORING.glob("dashboards/*.json"))
    return Outage(begun, ended, inbox, healthy_alerts, empty, count)


def _await_all(inbox: Inbox, status: str, expected: set[tuple[str, str]], within_s: float) -> None:
    """Wait until all that is expected was told, or time is up: tests say what is missing."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if all(inbox.first(status, *key) for key in expected):
            return
        time.sleep(0.5)


def pytest_addoption(parser: pytest.Parser) -> None:
    tables.add_option(parser, "alerts")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    rows = tables.recorded(terminalreporter, "alert")
    notes = tables.recorded(terminalreporter, "note")
    tables.show(terminalreporter, "alerts", _COLUMNS, rows, *notes, tables.machine())
