"""The metric registry: one entry for each metric of section 8 of the contract.

The exports, the reference (docs/generate.py), the dashboards and the tests derive from it.
To add a metric, count it in ``metrics.py`` and add its entry here.

The collector turns dots into underscores and appends units and ``_total``: ``http.requests``
becomes ``http_requests_total``, ``http.request.duration`` in ``s``
``http_request_duration_seconds``. A unit in braces leaves no trace; ``1`` would append ``_ratio``.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from portfolio.observability.metrics import (
    REJECTED,
    Attributes,
    CacheStatistics,
    Metrics,
    resident_bytes,
)
from portfolio.storage.breaker import Breaker
from portfolio.storage.connection import Pool

COUNTER = "counter"
UP_DOWN_COUNTER = "up-down counter"
GAUGE = "gauge"
HISTOGRAM = "histogram"

_UNIT_SUFFIXES = {"s": "_seconds", "By": "_bytes"}
_REQUEST = ("method", "endpoint", "status_code")
_BREAKER_STATES = {"closed": 0, "half-open": 1, "open": 2}

# The endpoints beside the API's that alerts count.
_PROBES = frozenset({"/health/live", "/health/ready"})
_SUCCESSES = {"GET": ("200",), "POST": ("200", "201"), "PUT": ("200",), "DELETE": ("204",)}
_FAILURES = ("500", "503")


class Sources(NamedTuple):
    """Where the values come from.

    Attributes:
        metrics: what the worker counts itself.
        pool: returns the state of the connection pool.
        cache: returns the counts of the validation cache.
        breakers: the circuit breakers.
        initial_requests: the request series that are exported as 0 until they occur.
    """

    metrics: Metrics
    pool: Callable[[], Pool]
    cache: Callable[[], CacheStatistics]
    breakers: Sequence[Breaker]
    initial_requests: Sequence[Attributes] = ()


# Returns the values of a metric by its attributes: numbers, or for histograms ``HistogramData``.
Reader = Callable[[Sources], Mapping[Attributes, Any]]


class MetricSpec(NamedTuple):
    """One metric.

    Attributes:
        name: as OpenTelemetry has it.
        kind: one of the four kinds above.
        unit: of UCUM; a word in braces is an annotation.
        meaning: what it counts or measures.
        panel: the dashboard panel that shows it; empty where only alerts use it.
        read: returns its values.
        attributes: the names of its attributes, beside ``service``.
    """

    name: str
    kind: str
    unit: str
    meaning: str
    panel: str
    read: Reader
    attributes: tuple[str, ...] = ()

    @property
    def prometheus_name(self) -> str:
        """The name under which Prometheus stores it."""
        name = self.name.replace(".", "_") + _UNIT_SUFFIXES.get(self.unit, "")
        return f"{name}_total" if self.kind == COUNTER else name


def initial_requests(routes: Iterable[tuple[str, str]]) -> list[Attributes]:
    """Return the request series that exist before the first such request.

    Prometheus sees no increase in a series that appears with a value, so the first burst of errors
    would be invisible to alerts. The successes belong to them: errors alone would count as all of
    the requests of a process that has just started. The list is bounded by the routes.

    Args:
        routes: methods and route templates.

    Returns:
        method, endpoint and status code of each.
    """
    series: list[Attributes] = []
    methods = set()
    for method, endpoint in routes:
        if method in _SUCCESSES and (endpoint.startswith("/api/") or endpoint in _PROBES):
            methods.add(method)
            series += [(method, endpoint, status) for status in (*_SUCCESSES[method], *_FAILURES)]
    # Rejected in overload, and a connection that failed.
    series += [(method, REJECTED, "503") for method in sorted(methods)]
    series.append(("_OTHER", REJECTED, "500"))
    return series


def _count_requests(sources: Sources) -> dict[Attributes, int]:
    counts = dict.fromkeys(sources.initial_requests, 0)
    return counts | {key: data.count for key, data in sources.metrics.requests.durations.items()}


def _count_calls(sources: Sources) -> dict[Attributes, int]:
    return {(each.name, key): n for each in sources.breakers for key, n in each.outcomes.items()}


def _count_creations(sources: Sources) -> dict[Attributes, int]:
    return {(api,): sources.metrics.portfolios["creations"][api] for api in ("v1", "v2", "fast")}


def _pool_metric(name: str, meaning: str, panel: str) -> MetricSpec:
    """Describe the gauge of the attribute ``name`` of ``Pool``."""
    attribute = "in_use" if name == "active" else name
    return MetricSpec(
        f"mongodb.connection_pool.{name}",
        GAUGE,
        "{connection}",
        meaning,
        panel,
        lambda sources: {(): getattr(sources.pool(), attribute)},
    )


METRICS = (
    MetricSpec(
        "http.requests",
        COUNTER,
        "{request}",
        "requests answered",
        "Rate, by endpoint",
        _count_requests,
        _REQUEST,
    ),
    MetricSpec(
        "http.request.duration",
        HISTOGRAM,
        "s",
        "duration of requests, up to the last byte of the response",
        "Duration, P95 by endpoint",
        lambda sources: sources.metrics.requests.durations,
        _REQUEST,
    ),
    MetricSpec(
        "http.requests.in_flight",
        UP_DOWN_COUNTER,
        "{request}",
        "requests in flight",
        "Requests in flight",
        lambda sources: {(): sources.metrics.requests.in_flight},
    ),
    MetricSpec(
        "portfolio.bulk_operation.duration",
        HISTOGRAM,
        "s",
        "duration of bulk creations",
        "Bulk operations, by outcome",
        lambda sources: sources.metrics.bulks,
        ("api", "outcome"),
    ),
    MetricSpec(
        "portfolio.creations",
        COUNTER,
        "{portfolio}",
        "portfolios created",
        "Portfolios created",
        _count_creations,
        ("api",),
    ),
    MetricSpec(
        "validation_cache.hits",
        COUNTER,
        "{lookup}",
        "look-ups answered from the cache",
        "Validation cache",
        lambda sources: {(): sources.cache().hits},
    ),
    MetricSpec(
        "validation_cache.requests",
        COUNTER,
        "{lookup}",
        "look-ups",
        "Validation cache",
        lambda sources: {(): sources.cache().hits + sources.cache().misses},
    ),
    MetricSpec(
        "validation_cache.hit_rate",
        GAUGE,
        "",
        "fraction of look-ups answered from the cache",
        "Validation cache hit rate of each process",
        lambda sources: {(): sources.cache().hit_rate},
    ),
    MetricSpec(
        "circuit_breaker.state",
        GAUGE,
        "",
        "0 closed, 1 half-open, 2 open",
        "Circuit breakers",
        lambda sources: {(each.name,): _BREAKER_STATES[each.state] for each in sources.breakers},
        ("circuit_name",),
    ),
    MetricSpec(
        "circuit_breaker.requests",
        COUNTER,
        "{call}",
        "calls by outcome",
        "Calls through the circuit breakers",
        _count_calls,
        ("circuit_name", "outcome"),
    ),
    _pool_metric("active", "connections in use", "Database connections"),
    _pool_metric("available", "connections that can still be checked out", "Database connections"),
    _pool_metric("max", "connections allowed", "Database connections, share in use"),
    _pool_metric("waiting", "callers that wait for a connection", "Database connections"),
    MetricSpec(
        "mongodb.operation.duration",
        HISTOGRAM,
        "s",
        "duration of database commands",
        "Database operations, P95",
        lambda sources: sources.metrics.operations,
        ("operation", "outcome"),
    ),
    MetricSpec(
        "process.cpu.time",
        COUNTER,
        "s",
        "CPU time of the process",
        "CPU of each pod",
        lambda _: {(kind,): getattr(os.times(), kind) for kind in ("user", "system")},
        ("type",),
    ),
    MetricSpec(
        "process.memory.usage",
        UP_DOWN_COUNTER,
        "By",
        "resident memory",
        "Memory of each pod",
        lambda _: {(): resident_bytes()},
    ),
    MetricSpec(
        "process.open_file_descriptor.count",
        UP_DOWN_COUNTER,
        "{file_descriptor}",
        "open files and connections",
        "Open files and connections",
        lambda _: {(): len(os.listdir("/dev/fd"))},
    ),
    MetricSpec(
        "cpython.gc.collections",
        COUNTER,
        "{collection}",
        "garbage collections",
        "Garbage collections",
        lambda _: {(str(index),): each["collections"] for index, each in enumerate(gc.get_stats())},
        ("cpython.gc.generation",),
    ),
)
