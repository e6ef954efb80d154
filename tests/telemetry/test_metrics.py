"""Metrics arrive complete, exact, and under the names of section 8 of the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import requests

from portfolio.devserver.mongod import Mongod
from portfolio.observability.registry import METRICS
from tests.support.collector import Collector, Series
from tests.support.gunicorn import Gunicorn, wait_until
from tests.telemetry.conftest import PROTOCOLS, Script, exporting

SERVICE = "globeco-portfolio-service"

# What a pod is told of itself: the attribute of its resource, the variable, and a value.
POD = {
    "service.namespace": ("SERVICE_NAMESPACE", "globeco"),
    "k8s.pod.name": ("MY_POD_NAME", "pod-1"),
    "k8s.pod.ip": ("MY_POD_IP", "10.0.0.7"),
    "k8s.node.name": ("MY_NODE_NAME", "node-1"),
    "k8s.namespace.name": ("MY_NAMESPACE", "globeco"),
}

# Prometheus name -> the attributes that its series carry beside `service`.
CONTRACT = {metric.prometheus_name: set(metric.attributes) for metric in METRICS}


def counts(collector: Collector, name: str, script: Script) -> dict[tuple[str, str, str], int]:
    """What arrived under ``name`` for each kind of request that ``script`` has sent."""
    return {
        (method, endpoint, status): int(
            collector.total(name, method=method, endpoint=endpoint, status_code=status)
        )
        for method, endpoint, status in script.sent
    }


def test_what_alerts_count_is_exported_at_zero_before_it_happens(
    collector: Collector, export: Callable[..., Gunicorn]
) -> None:
    # As long as in production: the first export must not wait for it.
    gunicorn = export(collector.address, OTEL_METRICS_EXPORT_INTERVAL_SECONDS="60")
    name = "http_requests_total"
    wait_until(lambda: len(collector.resources) == 2, "both workers export early", 20)
    first = collector.matching(name)
    for endpoint in ("/api/v1/portfolio/{portfolio_id}", "/api/v2/portfolios", "refused"):
        for status in ("503", "500") if endpoint != "refused" else ("503",):
            found = collector.matching(name, endpoint=endpoint, status_code=status, method="GET")
            assert sorted(found.values()) == [0, 0], "once a worker"
    unready = collector.matching(name, endpoint="/health/ready", status_code="503")
    assert sorted(unready.values()) == [0, 0]
    assert len(first) <= 2 * 60, "bounded"

    sender = Script(gunicorn.url)
    sender.mix()
    shown = requests.get(f"{gunicorn.url}/health/metrics", timeout=10).json()["requests"]
    assert set(shown["by_status"]).isdisjoint({"500", "503"}), "the pod's own view shows no zeros"
    assert "DELETE refused" not in shown["endpoints"]
    assert gunicorn.stop() == 0

    kinds = {(a["method"], a["endpoint"], a["status_code"]) for a in map(attributes, first)}
    served = {kind for kind in sender.sent if kind[1].startswith("/api/") and kind[2] < "300"}
    assert len(served) > 4
    assert served <= kinds, "successes too, or errors alone would seem to be all requests"
    assert counts(collector, name, sender) == dict(sender.sent)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_request_is_counted_once_though_workers_recycle(
    protocol: str, export: Callable[..., Gunicorn]
) -> None:
    collector = Collector()
    endpoint = collector.start_grpc() if protocol == "grpc" else collector.start_http()
    gunicorn = export(
        endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        GUNICORN_CMD_ARGS="--max-requests 25",
    )
    sender = Script(gunicorn.url)
    for _ in range(5):
        sender.mix()
    wait_until(lambda: len(collector.resources) > 2, "a recycled worker's successor exports")
    for _ in range(2):
        sender.mix()
    assert gunicorn.stop() == 0

    assert counts(collector, "http_requests_total", sender) == dict(sender.sent)
    assert counts(collector, "http_request_duration_seconds", sender) == dict(sender.sent)
    collector.stop()


def attributes(series: Series) -> dict[str, str]:
    """The attributes of a series, by name."""
    return dict(series.attributes)


class Run(NamedTuple):
    """What a service was asked, who answered, and what it exported until its end."""

    script: Script
    pids: set[int]
    collector: Collector


@pytest.fixture(scope="module")
def run(replica_set: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One run of a service for all that can be read off what it exported."""
    folder = tmp_path_factory.mktemp("metrics")
    with exporting(folder, replica_set.uri, **dict(POD.values())) as (gunicorn, collector):
        wait_until(lambda: len(collector.resources) == 2, "both workers export")
        pids = {worker.pid for worker in gunicorn.workers()}
        script = Script(gunicorn.url)
        script.mix()
        bulk = [{"name": f"Bulk {number}"} for number in range(10)]
        for _ in ("created", "refused, since the names are taken"):
            script.send("POST", "/api/fast/portfolios/bulk", "/api/fast/portfolios/bulk", json=bulk)
        for method in ("BREW", "PROPFIND"):
            requests.request(method, f"{gunicorn.url}/health", timeout=10)
        assert gunicorn.stop() == 0
        yield Run(script, pids, collector)


def test_every_name_and_attribute_of_the_contract_arrives_and_no_other(run: Run) -> None:
    assert run.collector.names() == set(CONTRACT)
    for series in run.collector.series:
        attributes = dict(series.attributes)
        assert attributes.pop("service") == SERVICE, series
        assert attributes.keys() == CONTRACT[series.name], series


def test_a_worker_tells_what_its_process_uses(run: Run) -> None:
    for name, wanted, least, most in (
        ("process_cpu_time_seconds_total", {"type": "user"}, 0.01, 60),
        ("process_cpu_time_seconds_total", {"type": "system"}, 0.0, 60),
        ("process_memory_usage_bytes", {}, 20 * 2**20, 500 * 2**20),
        ("process_open_file_descriptor_count", {}, 5, 500),
        ("cpython_gc_collections_total", {"cpython.gc.generation": "0"}, 0, 100_000),
    ):
        found = list(run.collector.matching(name, **wanted).values())
        assert len(found) == 2, "once a worker"
        assert all(least <= value <= most for value in found), f"{name}: {found}"


def test_two_workers_never_write_the_same_series(run: Run) -> None:
    resources = run.collector.resources
    assert {resource["process.pid"] for resource in resources.values()} == run.pids
    assert len(resources) == 2, "an instance id each"
    for resource in resources.values():
        assert resource["service.name"] == SERVICE
        assert {name: resource[name] for name in POD} == {
            name: value for name, (_, value) in POD.items()
        }


def test_durations_resolve_the_targets_of_the_runbook(run: Run) -> None:
    found = run.collector.matching("http_request_duration_seconds")
    assert found
    for series in found:
        assert {0.005, 0.01, 0.05, 0.2} <= set(run.collector.points[series].explicit_bounds)


def test_only_accepted_creations_count_and_bulks_tell_their_outcome(run: Run) -> None:
    created = {
        api: run.collector.total("portfolio_creations_total", api=api)
        for api in ("v1", "v2", "fast")
    }
    assert created == {"v1": 1, "v2": 1, "fast": 10}
    for outcome in ("success", "refused"):
        for api in ("v2", "fast"):
            name = "portfolio_bulk_operation_duration_seconds"
            assert run.collector.total(name, api=api, outcome=outcome) == 1, (api, outcome)


def test_methods_that_nobody_knows_make_no_series_of_their_own(run: Run) -> None:
    counted = run.collector.total("http_requests_total", method="_OTHER", status_code="405")
    assert counted == 2


def test_nothing_leaves_where_telemetry_is_disabled(
    collector: Collector, export: Callable[..., Gunicorn]
) -> None:
    gunicorn = export(collector.address, OTEL_SDK_DISABLED="true")
    Script(gunicorn.url).mix()
    gunicorn.stop()
    assert collector.exports == 0
    assert collector.spans == []
