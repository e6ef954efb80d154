"""The OpenTelemetry SDK in one worker; started after the fork, since it does not survive one."""

from __future__ import annotations

import logging
import os
import time
import uuid
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from portfolio.config import SERVICE, VERSION, Settings
from portfolio.observability.metrics import BOUNDS, HistogramData, Metrics
from portfolio.observability.otlp import GuardedExporter
from portfolio.observability.registry import COUNTER, GAUGE, HISTOGRAM, METRICS

if TYPE_CHECKING:
    from portfolio.observability.tracing import TracingMiddleware

log = logging.getLogger(__name__)

# How long a worker may take for its last export, after its drain.
_FLUSH_TIMEOUT_S = 2.0
# The first export does not wait for the interval: Prometheus sees no increase in what was counted
# before it. It comes late enough not to delay readiness.
_FIRST_EXPORT_AFTER_S = 3.0

# On every series, beside the resource: rules and dashboards select by it.
_COMMON = {"service": SERVICE}
_CUMULATIVE = AggregationTemporality.CUMULATIVE


class Telemetry:
    """Exports the metrics and spans of one worker to a collector.

    Args:
        settings: what is on, and how often metrics are exported.
        metrics: what is exported; it gets a circuit breaker for each signal that is exported.
        tracing: the middleware that traces requests; None where tracing is off.
    """

    def __init__(
        self, settings: Settings, metrics: Metrics, tracing: TracingMiddleware | None
    ) -> None:
        self.tracing = tracing
        self._settings = settings
        self._metrics = metrics
        self._stopped = Event()
        self._thread: Thread | None = None
        self._exporters = {signal: GuardedExporter(signal) for signal in settings.signals}
        metrics.breakers += [exporter.breaker for exporter in self._exporters.values()]

    def start(self) -> None:
        """Start collecting and exporting; call before the first request and connection."""
        # Stable names of span attributes by default; the first instrumentation reads the variable.
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
        origin = resource(self._settings)
        if exporter := self._exporters.get("metrics"):
            exporter.connect(_timeout_s(self._settings))
            self._thread = Thread(
                target=self._export_metrics, args=(exporter, origin), name="metrics", daemon=True
            )
            self._thread.start()
        if self.tracing is not None:
            exporter = self._exporters["traces"]
            exporter.connect()
            self.tracing.start(origin, exporter)

    def stop(self) -> None:
        """Export what is left, within two seconds, and stop."""
        self._stopped.set()
        ending = [self._thread] if self._thread else []
        if self.tracing is not None:
            # One last attempt even while the breaker is open: what is not sent now is lost.
            self._exporters["traces"].breaker.reset()
            ending.append(Thread(target=self.tracing.shutdown, daemon=True))
            ending[-1].start()
        deadline = time.monotonic() + _FLUSH_TIMEOUT_S
        for thread in ending:
            thread.join(max(deadline - time.monotonic(), 0))

    def _export_metrics(self, exporter: GuardedExporter, origin: Resource) -> None:
        """Export at each interval, and once more at the end."""
        started_ns, every_s = time.time_ns(), interval_s(self._settings)
        wait_s, stopped = min(every_s, _FIRST_EXPORT_AFTER_S), False
        while not stopped:
            stopped = self._stopped.wait(wait_s)
            if stopped:
                exporter.breaker.reset()  # for one last attempt
            exporter.export(_metrics_data(origin, collect(self._metrics, started_ns)))
            wait_s = every_s


def collect(metrics: Metrics, started_ns: int) -> list[Metric]:
    """Return every metric of the registry, cumulative since ``started_ns``, a Unix time.

    The SDK's own instruments are not used: it has none for a histogram that is read.
    """
    now_ns, readers, found = time.time_ns(), metrics.readers(), []
    for spec in METRICS:
        try:
            points = [
                _point(
                    dict(zip(spec.attributes, attributes, strict=True)), started_ns, now_ns, value
                )
                for attributes, value in readers[spec.name]().items()
            ]
        except Exception:  # costs no other metric
            log.exception("metric not read", extra={"metric": spec.name})
            continue
        data: Gauge | Histogram | Sum
        if spec.kind == HISTOGRAM:
            data = Histogram(points, _CUMULATIVE)
        elif spec.kind == GAUGE:
            data = Gauge(points)
        else:
            data = Sum(points, _CUMULATIVE, is_monotonic=spec.kind == COUNTER)
        if points:
            found.append(Metric(spec.name, spec.meaning, spec.unit, data))
    return found


def _point(
    attributes: dict[str, str], started_ns: int, now_ns: int, value: HistogramData | float
) -> Any:
    if not isinstance(value, HistogramData):
        return NumberDataPoint(_COMMON | attributes, started_ns, now_ns, value)
    return HistogramDataPoint(
        _COMMON | attributes,
        started_ns,
        now_ns,
        count=value.count,
        sum=value.total,
        bucket_counts=list(value.buckets),
        explicit_bounds=BOUNDS,
        min=None,  # type: ignore[arg-type]  # not known; the protocol has it optional
        max=None,  # type: ignore[arg-type]
    )


def _metrics_data(origin: Resource, metrics: list[Metric]) -> MetricsData:
    scope = ScopeMetrics(InstrumentationScope(SERVICE, VERSION), metrics, "")
    return MetricsData([ResourceMetrics(origin, [scope], "")])


def check(signal: str, settings: Settings, timeout_s: float) -> bool:
    """Send a gauge with the current time, or a span; return whether the collector accepted it.

    ``signal`` is ``metrics`` or ``traces``.
    """
    name, origin, now_ns = "portfolio.telemetry_check", resource(settings), time.time_ns()
    if signal == "metrics":
        gauge = Gauge([NumberDataPoint(_COMMON, now_ns, now_ns, now_ns / 1e9)])
        data: Any = _metrics_data(origin, [Metric(name, "", "s", gauge)])
    else:
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415

        tracers = TracerProvider(ALWAYS_ON, origin, shutdown_on_exit=False)
        span: Any = tracers.get_tracer(__name__).start_span(name)
        span.end()
        data = [span]
    exporter = GuardedExporter(signal)
    exporter.connect(timeout_s)
    return exporter.export(data)


def resource(settings: Settings) -> Resource:
    """Return the resource, which identifies this worker among all, also within its pod."""
    environ = os.environ
    # Includes OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES.
    given = Resource.create()
    own = {
        "service.version": VERSION,
        "service.namespace": environ.get("SERVICE_NAMESPACE"),
        "service.instance.id": str(uuid.uuid4()),
        "deployment.environment.name": settings.profile,
        "process.pid": os.getpid(),
        "k8s.pod.name": environ.get("MY_POD_NAME"),
        "k8s.pod.ip": environ.get("MY_POD_IP"),
        "k8s.node.name": environ.get("MY_NODE_NAME"),
        "k8s.namespace.name": environ.get("MY_NAMESPACE"),
    }
    if str(given.attributes["service.name"]).startswith("unknown_service"):
        own["service.name"] = SERVICE
    return given.merge(Resource({name: value for name, value in own.items() if value}))


def interval_s(settings: Settings) -> float:
    """Return the seconds between exports; the specification's variable counts if it is alone."""
    milliseconds = os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", "")
    if os.environ.get("OTEL_METRICS_EXPORT_INTERVAL_SECONDS") or not milliseconds.isdecimal():
        return settings.metrics_interval_s
    return int(milliseconds) / 1000 or settings.metrics_interval_s


def _timeout_s(settings: Settings) -> float | None:
    """Return the seconds an export may take; None, for the SDK, if only its variables are set."""
    standard = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT")
    uses_standard = any(os.environ.get(name) for name in standard)
    if uses_standard and not os.environ.get("OTEL_METRICS_EXPORT_TIMEOUT_SECONDS"):
        return None
    return settings.metrics_timeout_s
