"""The metrics of section 8 of the contract, as OpenTelemetry sees them.

Counters and gauges are observed: the SDK asks for the numbers when it exports, so that recording
costs what ``portfolio.observability.metrics`` costs. It has no histogram that is observed; those
are made here, as the SDK's own data.

The collector turns dots into underscores and appends units and ``_total``: ``http.requests``
becomes ``http_requests_total``, ``http.request.duration`` in ``s``
``http_request_duration_seconds``. A unit in braces leaves no trace; ``1`` would append ``_ratio``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
)
from opentelemetry.sdk.metrics.export import Histogram as SDKHistogram

from portfolio.config import SERVICE
from portfolio.observability.metrics import (
    BOUNDS,
    REJECTED,
    Attributes,
    CacheStatistics,
    Histogram,
    Metrics,
)
from portfolio.storage.client import Pool
from portfolio.storage.guard import Breaker

# On every series, beside the resource: rules and dashboards select by it.
COMMON = {"service": SERVICE}

# The endpoints beside the API's that alerts count.
_PROBES = frozenset({"/health/live", "/health/ready"})
_SUCCESSES = {"GET": ("200",), "POST": ("200", "201"), "PUT": ("200",), "DELETE": ("204",)}
_FAILURES = ("500", "503")
_CREATION_APIS = ("v1", "v2", "fast")

_STATES = {"closed": 0, "half-open": 1, "open": 2}

Value = tuple[float, dict[str, str]]


class Sources(NamedTuple):
    """Where the numbers come from.

    Attributes:
        metrics: what the worker counts itself.
        pool: tells the state of the connection pool.
        cache: tells the counts of the validation cache.
        breakers: the circuit breakers.
    """

    metrics: Metrics
    pool: Callable[[], Pool]
    cache: Callable[[], CacheStatistics]
    breakers: Sequence[Breaker]


def counted_from_zero(routes: Iterable[tuple[str, str]]) -> list[Attributes]:
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
    # Refused for too much load, and a connection that failed.
    series += [(method, REJECTED, "503") for method in sorted(methods)]
    series.append(("_OTHER", REJECTED, "500"))
    return series


def observe(meter: Meter, sources: Sources, from_zero: Sequence[Attributes] = ()) -> None:
    """Register every counter and gauge with ``meter``.

    Args:
        meter: makes them.
        sources: where the numbers come from.
        from_zero: the request series that are exported as 0 until they occur; they are not among
            what ``sources`` holds, so that the health endpoints show only what happened.
    """
    metrics, pool, cache, breakers = sources
    requests = metrics.requests

    def request_counts() -> Iterable[Value]:
        histogram = requests.durations
        for attributes, durations in histogram.items():
            yield durations.count, dict(zip(histogram.names, attributes, strict=True))
        for attributes in from_zero:
            if attributes not in histogram:
                yield 0, dict(zip(histogram.names, attributes, strict=True))

    def creations() -> Iterable[Value]:
        return ((metrics.creations[api], {"api": api}) for api in _CREATION_APIS)

    def breaker_states() -> Iterable[Value]:
        for breaker in breakers:
            yield _STATES[breaker.state], {"circuit_name": breaker.name}

    def breaker_requests() -> Iterable[Value]:
        for breaker in breakers:
            for outcome, count in breaker.outcomes.items():
                yield count, {"circuit_name": breaker.name, "outcome": outcome}

    counter = meter.create_observable_counter
    gauge = meter.create_observable_gauge
    up_down_counter = meter.create_observable_up_down_counter

    counter("http.requests", [_each(request_counts)], "{request}", "requests answered")
    up_down_counter(
        "http.requests.in_flight",
        [_one(lambda: requests.in_flight)],
        "{request}",
        "requests being answered",
    )
    counter("portfolio.creations", [_each(creations)], "{portfolio}", "portfolios created")
    counter("validation_cache.hits", [_one(lambda: cache().hits)], "{lookup}", "look-ups answered")
    counter(
        "validation_cache.requests",
        [_one(lambda: cache().hits + cache().misses)],
        "{lookup}",
        "look-ups",
    )
    gauge("validation_cache.hit_rate", [_one(lambda: cache().hit_rate)], "", "hits a look-up")
    gauge("circuit_breaker.state", [_each(breaker_states)], "", "0 closed, 1 half-open, 2 open")
    counter(
        "circuit_breaker.requests", [_each(breaker_requests)], "{call}", "calls by their outcome"
    )
    for name, size, meaning in (
        ("active", lambda: pool().in_use, "connections in use"),
        ("available", lambda: pool().available, "connections that could still be taken"),
        ("max", lambda: pool().max, "connections allowed"),
        ("waiting", lambda: pool().waiting, "callers that wait for a connection"),
    ):
        gauge(f"mongodb.connection_pool.{name}", [_one(size)], "{connection}", meaning)


def histograms(metrics: Metrics, begun_ns: int) -> list[Metric]:
    """Return every histogram as it is now, cumulative since ``begun_ns``, in Unix nanoseconds."""
    now_ns = time.time_ns()
    return [
        _histogram(name, meaning, histogram, begun_ns, now_ns)
        for name, meaning, histogram in (
            ("http.request.duration", "requests, to the last byte", metrics.requests.durations),
            ("portfolio.bulk_operation.duration", "creations in bulk", metrics.bulks),
            ("mongodb.operation.duration", "database commands", metrics.operations),
        )
        if histogram
    ]


def _histogram(name: str, meaning: str, histogram: Histogram, begun_ns: int, now_ns: int) -> Metric:
    points = [
        HistogramDataPoint(
            attributes=COMMON | dict(zip(histogram.names, attributes, strict=True)),
            start_time_unix_nano=begun_ns,
            time_unix_nano=now_ns,
            count=durations.count,
            sum=durations.total,
            bucket_counts=list(durations.buckets),
            explicit_bounds=BOUNDS,
            min=None,  # type: ignore[arg-type]  # not known; the protocol has it optional
            max=None,  # type: ignore[arg-type]
        )
        for attributes, durations in histogram.items()
    ]
    data = SDKHistogram(points, AggregationTemporality.CUMULATIVE)
    return Metric(name, meaning, "s", data)


def _each(
    read: Callable[[], Iterable[Value]],
) -> Callable[[CallbackOptions], Iterator[Observation]]:
    def observe(_: CallbackOptions) -> Iterator[Observation]:
        return (Observation(value, COMMON | attributes) for value, attributes in read())

    return observe


def _one(read: Callable[[], float]) -> Callable[[CallbackOptions], list[Observation]]:
    return lambda _: [Observation(read(), COMMON)]
