"""The metrics of the registry as OpenTelemetry instruments.

Counters and gauges are observed: the SDK reads the values when it exports, so that recording costs
no more than ``portfolio.observability.metrics`` does. The SDK has no observed histogram; those are
built here as the SDK's own data.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics.export import AggregationTemporality, HistogramDataPoint, Metric
from opentelemetry.sdk.metrics.export import Histogram as SDKHistogram

from portfolio.config import SERVICE
from portfolio.observability.metrics import BOUNDS, REJECTED, Attributes
from portfolio.observability.registry import (
    COUNTER,
    GAUGE,
    HISTOGRAM,
    METRICS,
    UP_DOWN_COUNTER,
    MetricSpec,
    Sources,
)

# On every series, beside the resource: rules and dashboards select by it.
COMMON = {"service": SERVICE}

# The endpoints beside the API's that alerts count.
_PROBES = frozenset({"/health/live", "/health/ready"})
_SUCCESSES = {"GET": ("200",), "POST": ("200", "201"), "PUT": ("200",), "DELETE": ("204",)}
_FAILURES = ("500", "503")


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


def register(meter: Meter, sources: Sources) -> None:
    """Register every counter and gauge of the registry with ``meter``.

    Args:
        meter: creates the instruments.
        sources: where their values come from.
    """
    create = {
        COUNTER: meter.create_observable_counter,
        UP_DOWN_COUNTER: meter.create_observable_up_down_counter,
        GAUGE: meter.create_observable_gauge,
    }
    for spec in METRICS:
        if spec.kind != HISTOGRAM:
            callback = partial(_observe, spec, sources)
            create[spec.kind](spec.name, [callback], spec.unit, spec.meaning)


def histograms(sources: Sources, start_ns: int) -> list[Metric]:
    """Return every histogram as it is now, cumulative since ``start_ns``, in Unix nanoseconds."""
    now_ns = time.time_ns()
    found = []
    for spec in METRICS:
        if spec.kind == HISTOGRAM:
            points = [
                HistogramDataPoint(
                    attributes=attributes,
                    start_time_unix_nano=start_ns,
                    time_unix_nano=now_ns,
                    count=data.count,
                    sum=data.total,
                    bucket_counts=list(data.buckets),
                    explicit_bounds=BOUNDS,
                    min=None,  # type: ignore[arg-type]  # not known; the protocol has it optional
                    max=None,  # type: ignore[arg-type]
                )
                for attributes, data in _read(spec, sources)
            ]
            histogram = SDKHistogram(points, AggregationTemporality.CUMULATIVE)
            found.append(Metric(spec.name, spec.meaning, spec.unit, histogram))
    return [metric for metric in found if metric.data.data_points]


def _observe(spec: MetricSpec, sources: Sources, _: CallbackOptions) -> list[Observation]:
    return [Observation(value, attributes) for attributes, value in _read(spec, sources)]


def _read(spec: MetricSpec, sources: Sources) -> Iterator[tuple[dict[str, str], Any]]:
    """Yield the attributes and the value of each series."""
    for attributes, value in spec.read(sources).items():
        yield COMMON | dict(zip(spec.attributes, attributes, strict=True)), value
