"""The metric registry: one entry for each metric of section 8 of the contract.

The exports, the reference (docs/generate.py), the dashboards and the tests derive from it.
``Metrics.values`` has the value of each.

The collector turns dots into underscores and appends units and ``_total``: ``http.requests``
becomes ``http_requests_total``, ``http.request.duration`` in ``s``
``http_request_duration_seconds``. A unit in braces leaves no trace; ``1`` would append ``_ratio``.
"""

from __future__ import annotations

from typing import NamedTuple

COUNTER = "counter"
UP_DOWN_COUNTER = "up-down counter"
GAUGE = "gauge"
HISTOGRAM = "histogram"

_UNIT_SUFFIXES = {"s": "_seconds", "By": "_bytes"}
_REQUEST = ("method", "endpoint", "status_code")


class MetricSpec(NamedTuple):
    """One metric.

    Attributes:
        name: as OpenTelemetry has it.
        kind: one of the four kinds above.
        unit: of UCUM; a word in braces is an annotation.
        meaning: what it counts or measures.
        panel: the dashboard panel that shows it; empty where only alerts use it.
        attributes: the names of its attributes, beside ``service``.
    """

    name: str
    kind: str
    unit: str
    meaning: str
    panel: str
    attributes: tuple[str, ...] = ()

    @property
    def prometheus_name(self) -> str:
        """The name under which Prometheus stores it."""
        name = self.name.replace(".", "_") + _UNIT_SUFFIXES.get(self.unit, "")
        return f"{name}_total" if self.kind == COUNTER else name


METRICS = (
    MetricSpec(
        "http.requests", COUNTER, "{request}", "requests answered", "Rate, by endpoint", _REQUEST
    ),
    MetricSpec(
        "http.request.duration",
        HISTOGRAM,
        "s",
        "duration of requests, up to the last byte of the response",
        "Duration, P95 by endpoint",
        _REQUEST,
    ),
    MetricSpec(
        "http.requests.in_flight",
        UP_DOWN_COUNTER,
        "{request}",
        "requests in flight",
        "Requests in flight",
    ),
    MetricSpec(
        "portfolio.bulk_operation.duration",
        HISTOGRAM,
        "s",
        "duration of bulk creations",
        "Bulk operations, by outcome",
        ("api", "outcome"),
    ),
    MetricSpec(
        "portfolio.creations",
        COUNTER,
        "{portfolio}",
        "portfolios created",
        "Portfolios created",
        ("api",),
    ),
    MetricSpec(
        "validation_cache.hits",
        COUNTER,
        "{lookup}",
        "look-ups answered from the cache",
        "Validation cache",
    ),
    MetricSpec("validation_cache.requests", COUNTER, "{lookup}", "look-ups", "Validation cache"),
    MetricSpec(
        "validation_cache.hit_rate",
        GAUGE,
        "",
        "fraction of look-ups answered from the cache",
        "Validation cache hit rate of each process",
    ),
    MetricSpec(
        "circuit_breaker.state",
        GAUGE,
        "",
        "0 closed, 1 half-open, 2 open",
        "Circuit breakers",
        ("circuit_name",),
    ),
    MetricSpec(
        "circuit_breaker.requests",
        COUNTER,
        "{call}",
        "calls by outcome",
        "Calls through the circuit breakers",
        ("circuit_name", "outcome"),
    ),
    MetricSpec(
        "mongodb.connection_pool.active",
        GAUGE,
        "{connection}",
        "connections in use",
        "Database connections",
    ),
    MetricSpec(
        "mongodb.connection_pool.available",
        GAUGE,
        "{connection}",
        "connections that can still be checked out",
        "Database connections",
    ),
    MetricSpec(
        "mongodb.connection_pool.max",
        GAUGE,
        "{connection}",
        "connections allowed",
        "Database connections, share in use",
    ),
    MetricSpec(
        "mongodb.connection_pool.waiting",
        GAUGE,
        "{connection}",
        "callers that wait for a connection",
        "Database connections",
    ),
    MetricSpec(
        "mongodb.operation.duration",
        HISTOGRAM,
        "s",
        "duration of database commands",
        "Database operations, P95",
        ("operation", "outcome"),
    ),
    MetricSpec(
        "process.cpu.time", COUNTER, "s", "CPU time of the process", "CPU of each pod", ("type",)
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
        ("cpython.gc.generation",),
    ),
)
