"""The metric registry: one entry for each metric of section 8 of the contract.

The instruments, the reference (docs/generate.py), the dashboards and the tests derive from it.
To add a metric, count it in ``metrics.py`` and add its entry here.

The collector turns dots into underscores and appends units and ``_total``: ``http.requests``
becomes ``http_requests_total``, ``http.request.duration`` in ``s``
``http_request_duration_seconds``. A unit in braces leaves no trace; ``1`` would append ``_ratio``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from portfolio.observability.metrics import Attributes, CacheStatistics, Histogram, Metrics
from portfolio.storage.breaker import Breaker
from portfolio.storage.pool import Pool

COUNTER = "counter"
UP_DOWN_COUNTER = "up-down counter"
GAUGE = "gauge"
HISTOGRAM = "histogram"

_UNIT_SUFFIXES = {"s": "_seconds", "By": "_bytes"}
_REQUEST = ("method", "endpoint", "status_code")
_CREATION_APIS = ("v1", "v2", "fast")
_BREAKER_STATES = {"closed": 0, "half-open": 1, "open": 2}

Samples = Iterable[tuple[Attributes, float]]


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


@dataclass(frozen=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: as OpenTelemetry has it.
        kind: one of the four kinds above.
        unit: of UCUM; a word in braces is an annotation.
        meaning: what it counts or measures.
        panel: the dashboard panel that shows it; empty where only alerts use it.
        attributes: the names of its attributes, beside ``service``.
        read: returns its values by attribute values; None for histograms and process metrics.
        read_histogram: returns the data of a histogram.
        states: for process metrics, which states are reported.
    """

    name: str
    kind: str
    unit: str
    meaning: str
    panel: str
    attributes: tuple[str, ...] = ()
    read: Callable[[Sources], Samples] | None = None
    read_histogram: Callable[[Metrics], Histogram] | None = None
    states: list[str] | None = None

    @property
    def prometheus_name(self) -> str:
        """The name under which Prometheus stores it."""
        name = self.name.replace(".", "_") + _UNIT_SUFFIXES.get(self.unit, "")
        return f"{name}_total" if self.kind == COUNTER else name


def _count_requests(sources: Sources) -> Samples:
    durations = sources.metrics.requests.durations
    for attributes, data in durations.items():
        yield attributes, data.count
    for attributes in sources.initial_requests:
        if attributes not in durations:
            yield attributes, 0


def _read_breaker_requests(sources: Sources) -> Samples:
    for breaker in sources.breakers:
        for outcome, count in breaker.outcomes.items():
            yield (breaker.name, outcome), count


def _pool_metric(name: str, meaning: str, panel: str, read: Callable[[Pool], int]) -> MetricSpec:
    return MetricSpec(
        f"mongodb.connection_pool.{name}",
        GAUGE,
        "{connection}",
        meaning,
        panel,
        read=lambda sources: [((), read(sources.pool()))],
    )


METRICS = (
    MetricSpec(
        "http.requests",
        COUNTER,
        "{request}",
        "requests answered",
        "Rate, by endpoint",
        _REQUEST,
        _count_requests,
    ),
    MetricSpec(
        "http.request.duration",
        HISTOGRAM,
        "s",
        "duration of requests, up to the last byte of the response",
        "Duration, P95 by endpoint",
        _REQUEST,
        read_histogram=lambda metrics: metrics.requests.durations,
    ),
    MetricSpec(
        "http.requests.in_flight",
        UP_DOWN_COUNTER,
        "{request}",
        "requests in flight",
        "Requests in flight",
        read=lambda sources: [((), sources.metrics.requests.in_flight)],
    ),
    MetricSpec(
        "portfolio.bulk_operation.duration",
        HISTOGRAM,
        "s",
        "duration of bulk creations",
        "Bulk operations, by outcome",
        ("api", "outcome"),
        read_histogram=lambda metrics: metrics.bulks,
    ),
    MetricSpec(
        "portfolio.creations",
        COUNTER,
        "{portfolio}",
        "portfolios created",
        "Portfolios created",
        ("api",),
        lambda sources: [((api,), sources.metrics.creations[api]) for api in _CREATION_APIS],
    ),
    MetricSpec(
        "validation_cache.hits",
        COUNTER,
        "{lookup}",
        "look-ups answered from the cache",
        "Validation cache",
        read=lambda sources: [((), sources.cache().hits)],
    ),
    MetricSpec(
        "validation_cache.requests",
        COUNTER,
        "{lookup}",
        "look-ups",
        "Validation cache",
        read=lambda sources: [((), sources.cache().hits + sources.cache().misses)],
    ),
    MetricSpec(
        "validation_cache.hit_rate",
        GAUGE,
        "",
        "fraction of look-ups answered from the cache",
        "Validation cache hit rate of each process",
        read=lambda sources: [((), sources.cache().hit_rate)],
    ),
    MetricSpec(
        "circuit_breaker.state",
        GAUGE,
        "",
        "0 closed, 1 half-open, 2 open",
        "Circuit breakers",
        ("circuit_name",),
        lambda sources: [((each.name,), _BREAKER_STATES[each.state]) for each in sources.breakers],
    ),
    MetricSpec(
        "circuit_breaker.requests",
        COUNTER,
        "{call}",
        "calls by outcome",
        "Calls through the circuit breakers",
        ("circuit_name", "outcome"),
        _read_breaker_requests,
    ),
    _pool_metric("active", "connections in use", "Database connections", lambda pool: pool.in_use),
    _pool_metric(
        "available",
        "connections that can still be checked out",
        "Database connections",
        lambda pool: pool.available,
    ),
    _pool_metric(
        "max", "connections allowed", "Database connections, share in use", lambda pool: pool.max
    ),
    _pool_metric(
        "waiting",
        "callers that wait for a connection",
        "Database connections",
        lambda pool: pool.waiting,
    ),
    MetricSpec(
        "mongodb.operation.duration",
        HISTOGRAM,
        "s",
        "duration of database commands",
        "Database operations, P95",
        ("operation", "outcome"),
        read_histogram=lambda metrics: metrics.operations,
    ),
)

# Measured by OpenTelemetry's own instrumentation of the process, under its semantic names.
PROCESS_METRICS = (
    MetricSpec(
        "process.cpu.time",
        COUNTER,
        "s",
        "CPU time of the process",
        "CPU of each pod",
        states=["user", "system"],
    ),
    MetricSpec(
        "process.memory.usage", UP_DOWN_COUNTER, "By", "resident memory", "Memory of each pod"
    ),
    MetricSpec(
        "process.open_file_descriptor.count",
        UP_DOWN_COUNTER,
        "{file_descriptor}",
        "open files and connections",
        "Open files and connections",
    ),
    MetricSpec(
        "cpython.gc.collections",
        COUNTER,
        "{collection}",
        "garbage collections",
        "Garbage collections",
    ),
)
