"""Metrics arrive complete, exact, and under the names of section 8 of the contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.gunicorn import Gunicorn, wait_until
from tests.telemetry.collector import Collector
from tests.telemetry.conftest import Script

SERVICE = "globeco-portfolio-service"

# Prometheus name -> the attributes that its series carry beside `service`.
CONTRACT = {
    "http_requests_total": {"method", "endpoint", "status_code"},
    "http_request_duration_seconds": {"method", "endpoint", "status_code"},
    "http_requests_in_flight": set(),
    "portfolio_bulk_operation_duration_seconds": {"api", "outcome"},
    "portfolio_creations_total": {"api"},
    "validation_cache_hits_total": set(),
    "validation_cache_requests_total": set(),
    "validation_cache_hit_rate": set(),
    "circuit_breaker_state": {"circuit_name"},
    "circuit_breaker_requests_total": {"circuit_name", "outcome"},
    "mongodb_connection_pool_active": set(),
    "mongodb_connection_pool_available": set(),
    "mongodb_connection_pool_max": set(),
    "mongodb_connection_pool_waiting": set(),
    "mongodb_operation_duration_seconds": {"operation", "outcome"},
}
PROCESS = {
    "process_cpu_time_seconds_total",
    "process_memory_usage_bytes",
    "process_open_file_descriptor_count",
    "cpython_gc_collections_total",
}


def counts(collector: Collector, name: str, script: Script) -> dict[tuple[str, str, str], int]:
    """What arrived under ``name`` for each kind of request that ``script`` has sent."""
    return {
        (method, endpoint, status): int(
            collector.total(name, method=method, endpoint=endpoint, status_code=status)
        )
        for method, endpoint, status in script.sent
    }


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_every_request_is_counted_once_though_workers_recycle(
    protocol: str, export: Callable[..., Gunicorn], script: type[Script]
) -> None:
    collector = Collector()
    endpoint = collector.start_grpc() if protocol == "grpc" else collector.start_http()
    gunicorn = export(
        endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        GUNICORN_CMD_ARGS="--max-requests 25",
    )
    sender = script(gunicorn.url)
    for _ in range(5):
        sender.mix()
    wait_until(lambda: len(collector.resources) > 2, "a recycled worker's successor exports")
    for _ in range(2):
        sender.mix()
    assert gunicorn.stop() == 0

    assert counts(collector, "http_requests_total", sender) == dict(sender.sent)
    assert counts(collector, "http_request_duration_seconds", sender) == dict(sender.sent)
    collector.stop()


def test_every_name_and_attribute_of_the_contract_arrives(
    collector: Collector, export: Callable[..., Gunicorn], script: type[Script]
) -> None:
    gunicorn = export(collector.address)
    script(gunicorn.url).mix()
    wait_until(lambda: set(CONTRACT) | PROCESS <= collector.names(), "all names arrive")

    for series in collector.series:
        attributes = dict(series.attributes)
        assert attributes.pop("service") == SERVICE, series
        if series.name in CONTRACT:
            assert attributes.keys() == CONTRACT[series.name], series
    assert collector.names() == set(CONTRACT) | PROCESS


def test_two_workers_never_write_the_same_series(
    collector: Collector, export: Callable[..., Gunicorn]
) -> None:
    gunicorn = export(collector.address, MY_POD_NAME="pod-1", SERVICE_NAMESPACE="globeco")
    pids = {worker.pid for worker in gunicorn.workers()}
    wait_until(lambda: len(collector.resources) == 2, "both workers export")

    resources = collector.resources.values()
    assert {resource["process.pid"] for resource in resources} == pids
    for resource in resources:
        assert resource["service.name"] == SERVICE
        assert resource["service.namespace"] == "globeco"
        assert resource["k8s.pod.name"] == "pod-1"


def test_durations_resolve_the_targets_of_the_runbook(
    collector: Collector, export: Callable[..., Gunicorn]
) -> None:
    export(collector.address)
    found = wait_until(
        lambda: collector.matching("http_request_duration_seconds"), "durations arrive"
    )
    for series in found:
        assert {0.005, 0.01, 0.05, 0.2} <= set(collector.points[series].explicit_bounds)


def test_only_accepted_creations_count_and_bulks_tell_their_outcome(
    collector: Collector, export: Callable[..., Gunicorn], script: type[Script]
) -> None:
    gunicorn = export(collector.address)
    sender = script(gunicorn.url)
    sender.mix()
    bulk = [{"name": f"Bulk {number}"} for number in range(10)]
    for expected in (201, 409):
        answer = sender.send(
            "POST", "/api/fast/portfolios/bulk", "/api/fast/portfolios/bulk", json=bulk
        )
        assert answer.status_code == expected
    gunicorn.stop()

    created = {api: collector.total("portfolio_creations_total", api=api) for api in ("v1", "v2")}
    assert created == {"v1": 1, "v2": 1}
    assert collector.total("portfolio_creations_total", api="fast") == 10
    for outcome in ("success", "refused"):
        for api in ("v2", "fast"):
            name = "portfolio_bulk_operation_duration_seconds"
            assert collector.total(name, api=api, outcome=outcome) == 1, (api, outcome)


def test_methods_that_nobody_knows_make_no_series_of_their_own(
    collector: Collector, export: Callable[..., Gunicorn], script: type[Script]
) -> None:
    gunicorn = export(collector.address)
    for method in ("BREW", "PROPFIND"):
        script(gunicorn.url).send(method, "/health", "unmatched")
    gunicorn.stop()
    assert collector.total("http_requests_total", method="_OTHER", status_code="405") == 2


def test_nothing_leaves_where_telemetry_is_disabled(
    collector: Collector, export: Callable[..., Gunicorn], script: type[Script]
) -> None:
    gunicorn = export(collector.address, OTEL_SDK_DISABLED="true")
    script(gunicorn.url).mix()
    gunicorn.stop()
    assert collector.exports == 0
    assert collector.spans == []
