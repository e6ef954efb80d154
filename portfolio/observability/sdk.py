"""OpenTelemetry in one worker: made after the fork, since none of it survives one."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING

from flask import Flask
from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.util.types import AnyValue

from portfolio.api.flask_app import route_template
from portfolio.api.validation_cache import ValidationCache
from portfolio.config import SERVICE, VERSION, Settings
from portfolio.observability import instruments, otlp
from portfolio.observability.metrics import Metrics
from portfolio.storage.client import Database
from portfolio.storage.guard import Breaker

if TYPE_CHECKING:
    from portfolio.observability.tracing import TracingMiddleware

# What the dashboards show of the process, by the semantic conventions' names.
_PROCESS_METRICS: dict[str, list[str] | None] = {
    "process.cpu.time": ["user", "system"],
    "process.memory.usage": None,
    "process.open_file_descriptor.count": None,
    "cpython.gc.collections": None,
}
# Two exports that fail in a row, each after retries of its own, make the collector count as gone;
# one is tried again after half a minute.
_FAILURES = 2
_RETRY_AFTER_S = 30.0
# A worker that ends has this long to send what it still holds, after its drain.
_FLUSH_TIMEOUT_S = 2.0
# The first export does not wait for its interval, of 60 s in production: what a worker counts
# before it shows as no increase. By then the worker is ready, which this must not delay.
_FIRST_EXPORT_AFTER_S = 3.0


class Telemetry:
    """Metrics and spans of one worker, on their way to a collector.

    Args:
        app: the application that is traced.
        settings: what is on, how often metrics are exported, how much is sampled.
        database: whose pool and breaker are shown, and whose commands are traced.
        cache: whose counts are shown.
        metrics: what the worker counts itself.

    Attributes:
        breakers: guard the exports, each of a signal: a collector may take metrics and no traces.
    """

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        database: Database,
        cache: ValidationCache,
        metrics: Metrics,
    ) -> None:
        otlp.load()
        self._app = app
        self._settings = settings
        self._database = database
        self._stopped = Event()
        self._metrics_breaker = _breaker("telemetry_metrics")
        self._traces_breaker = _breaker("telemetry_traces")
        self.breakers: list[Breaker] = []
        if settings.enable_metrics:
            self.breakers.append(self._metrics_breaker)
        if settings.enable_tracing:
            self.breakers.append(self._traces_breaker)
        self._sources = instruments.Sources(
            metrics,
            pool=lambda: database.pool,
            cache=cache.statistics,
            breakers=[*self.breakers, *([database.breaker] if database.breaker else [])],
        )
        self._meters: MeterProvider | None = None
        self._tracers: TracerProvider | None = None
        self._process: SystemMetricsInstrumentor | None = None
        self._tracing: TracingMiddleware | None = None
        if settings.enable_tracing:
            # Deferred: the instrumentation is loaded only where something is traced.
            from portfolio.observability.tracing import TracingMiddleware  # noqa: PLC0415

            self._tracing = TracingMiddleware(app, settings.trace_sample_rate)
            app.wsgi_app = self._tracing  # type: ignore[method-assign]

    def start(self) -> None:
        """Begin to collect and to export, before the first request and the first connection."""
        # Attributes of spans by their stable names, unless somebody asks for others; the first
        # instrumentation that starts reads it.
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
        origin = resource(self._settings)
        if self._settings.enable_metrics and _wanted("METRICS"):
            self._start_metrics(origin)
        if self._tracing is not None and _wanted("TRACES"):
            self._start_traces(origin, self._tracing)

    def stop(self) -> None:
        """Send what is left, within two seconds, and end."""
        self._stopped.set()
        if self._tracing is not None:
            self._tracing.stop()
        # A last attempt, even if the collector was gone a moment ago: what isn't sent now is lost.
        for breaker in self.breakers:
            breaker.reset()
        ending = [
            Thread(target=provider.shutdown, daemon=True)
            for provider in (self._tracers, self._meters)
            if provider is not None
        ]
        for thread in ending:
            thread.start()
        deadline = time.monotonic() + _FLUSH_TIMEOUT_S
        for thread in ending:
            thread.join(max(deadline - time.monotonic(), 0))
        if self._process is not None:
            self._process.uninstrument()

    def _start_metrics(self, resource: Resource) -> None:
        settings, sources, begun_ns = self._settings, self._sources, time.time_ns()
        timeout_s = (
            None
            if _speaks_standard("TIMEOUT", "EXPORTER_OTLP_TIMEOUT", "EXPORTER_OTLP_METRICS_TIMEOUT")
            else settings.metrics_timeout_s
        )
        interval_ms = (
            None
            if _speaks_standard("INTERVAL", "METRIC_EXPORT_INTERVAL")
            else settings.metrics_interval_s * 1000
        )
        exporter = otlp.GuardedMetricExporter(
            otlp.metric_exporter(timeout_s),
            self._metrics_breaker,
            lambda: instruments.histograms(sources.metrics, begun_ns),
        )
        reader = PeriodicExportingMetricReader(
            exporter,
            export_interval_millis=interval_ms,
            export_timeout_millis=settings.metrics_timeout_s * 1000,
        )
        self._meters = MeterProvider([reader], resource, shutdown_on_exit=False)
        from_zero = instruments.counted_from_zero(_routes(self._app))
        instruments.observe(self._meters.get_meter(SERVICE, VERSION), sources, from_zero)
        self._process = SystemMetricsInstrumentor(instruments.COMMON, _PROCESS_METRICS)
        # Versions are pinned; to look them up takes each worker 6 ms of CPU.
        self._process.instrument(meter_provider=self._meters, skip_dep_check=True)
        Thread(
            target=self._export_first, args=(self._meters,), name="first-export", daemon=True
        ).start()

    def _export_first(self, meters: MeterProvider) -> None:
        if self._stopped.wait(_FIRST_EXPORT_AFTER_S):
            return
        with suppress(Exception):  # the exporter has said why; the next one is in an interval
            meters.force_flush()

    def _start_traces(self, resource: Resource, sampler: TracingMiddleware) -> None:
        # Whether a request is sampled was decided before its span begins.
        self._tracers = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        exporter = otlp.GuardedSpanExporter(otlp.span_exporter(), self._traces_breaker)
        self._tracers.add_span_processor(BatchSpanProcessor(exporter))
        if self._settings.enable_database_tracing:
            from portfolio.observability.tracing import CommandSpans  # noqa: PLC0415

            self._database.listeners.append(CommandSpans(self._tracers))
        sampler.start(self._tracers)


def _routes(app: Flask) -> Iterator[tuple[str, str]]:
    """Yield methods and templates of all routes, as requests are counted by them."""
    for rule in app.url_map.iter_rules():
        for method in sorted(rule.methods or ()):
            yield method, route_template(rule)


def _breaker(name: str) -> Breaker:
    return Breaker(
        name,
        failures=_FAILURES,
        reset_s=_RETRY_AFTER_S,
        successes=1,
        counts=lambda _: True,
        level=logging.DEBUG,  # the exporter says what is wrong, once a minute
    )


def _speaks_standard(own: str, *standard: str) -> bool:
    """Tell whether the environment says something by a standard variable, and not by our own.

    Args:
        own: ``INTERVAL`` or ``TIMEOUT``.
        standard: names of the specification that mean the same, without ``OTEL_``.
    """
    if os.environ.get(f"OTEL_METRICS_EXPORT_{own}_SECONDS"):
        return False
    return any(os.environ.get(f"OTEL_{name}") for name in standard)


def _wanted(signal: str) -> bool:
    return os.environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() != "none"


def resource(settings: Settings) -> Resource:
    """Return what tells this worker from every other, the other workers of its pod included."""
    environ = os.environ
    # With OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES in it; what follows is ours to say.
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
    merged = given.merge(Resource({name: value for name, value in own.items() if value}))
    return _Origin(dict(merged.attributes or {}), merged.schema_url)


class _Origin(Resource):
    """A resource that is hashed once; the encoder asks for it with each span, which took 20 us."""

    def __init__(self, attributes: Mapping[str, AnyValue], schema_url: str) -> None:
        super().__init__(attributes, schema_url)
        self._hash = super().__hash__()

    def __hash__(self) -> int:
        return self._hash
