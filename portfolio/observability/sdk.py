"""The OpenTelemetry SDK in one worker; started after the fork, since it does not survive one."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING

from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from portfolio.config import SERVICE, VERSION, Settings
from portfolio.observability import instruments, otlp
from portfolio.observability.metrics import CacheStatistics, Metrics
from portfolio.observability.registry import PROCESS_METRICS, Sources
from portfolio.storage.breaker import Breaker
from portfolio.storage.client import Database

if TYPE_CHECKING:
    from portfolio.observability.tracing import TracingMiddleware

# After two consecutive failures, each with its own retries, the breaker opens for half a minute.
_FAILURES = 2
_RETRY_AFTER_S = 30.0
# How long a worker may take for its last export, after its drain.
_FLUSH_TIMEOUT_S = 2.0
# The first export does not wait for the interval: Prometheus sees no increase in what was counted
# before it. It comes late enough not to delay readiness.
_FIRST_EXPORT_AFTER_S = 3.0


class Telemetry:
    """Exports the metrics and spans of one worker to a collector.

    Args:
        settings: what is on, and how often metrics are exported.
        database: whose pool and breaker are exported, and whose commands are traced.
        metrics: what the worker counts itself.
        cache_statistics: returns the counts of the validation cache.
        routes: returns method and template of every route.
        tracing: traces requests; None where tracing is off.

    Attributes:
        tracing: the WSGI middleware that traces requests, where tracing is on.
        breakers: the circuit breakers, one for each signal.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        metrics: Metrics,
        cache_statistics: Callable[[], CacheStatistics],
        routes: Callable[[], Iterable[tuple[str, str]]],
        tracing: TracingMiddleware | None,
    ) -> None:
        otlp.load()
        self.tracing = tracing
        self._routes = routes
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
        self._sources = Sources(
            metrics,
            pool=lambda: database.pool,
            cache=cache_statistics,
            breakers=[*self.breakers, *([database.breaker] if database.breaker else [])],
        )
        self._meters: MeterProvider | None = None
        self._tracers: TracerProvider | None = None
        self._process: SystemMetricsInstrumentor | None = None

    def start(self) -> None:
        """Start collecting and exporting; call before the first request and connection."""
        # Stable names of span attributes by default; the first instrumentation reads the variable.
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
        origin = resource(self._settings)
        if self._settings.enable_metrics and _is_enabled("METRICS"):
            self._start_metrics(origin)
        if self.tracing is not None and _is_enabled("TRACES"):
            self._start_traces(origin, self.tracing)

    def stop(self) -> None:
        """Export what is left, within two seconds, and stop."""
        self._stopped.set()
        if self.tracing is not None:
            self.tracing.stop()
        # One last attempt even while a breaker is open: what is not sent now is lost.
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
        settings, sources, start_ns = self._settings, self._sources, time.time_ns()
        timeout_s = (
            None
            if _uses_standard("TIMEOUT", "EXPORTER_OTLP_TIMEOUT", "EXPORTER_OTLP_METRICS_TIMEOUT")
            else settings.metrics_timeout_s
        )
        interval_ms = (
            None
            if _uses_standard("INTERVAL", "METRIC_EXPORT_INTERVAL")
            else settings.metrics_interval_s * 1000
        )
        exporter = otlp.GuardedMetricExporter(
            otlp.metric_exporter(timeout_s),
            self._metrics_breaker,
            lambda: instruments.histograms(sources.metrics, start_ns),
        )
        reader = PeriodicExportingMetricReader(
            exporter,
            export_interval_millis=interval_ms,
            export_timeout_millis=settings.metrics_timeout_s * 1000,
        )
        self._meters = MeterProvider([reader], resource, shutdown_on_exit=False)
        initial_requests = instruments.initial_requests(self._routes())
        instruments.register(
            self._meters.get_meter(SERVICE, VERSION),
            sources._replace(initial_requests=initial_requests),
        )
        states = {each.name: each.states for each in PROCESS_METRICS}
        self._process = SystemMetricsInstrumentor(instruments.COMMON, states)
        # Versions are pinned, and looking them up costs CPU in each worker.
        self._process.instrument(meter_provider=self._meters, skip_dep_check=True)
        Thread(
            target=self._export_first, args=(self._meters,), name="first-export", daemon=True
        ).start()

    def _export_first(self, meters: MeterProvider) -> None:
        if self._stopped.wait(_FIRST_EXPORT_AFTER_S):
            return
        with suppress(Exception):  # logged by the exporter; the next export follows
            meters.force_flush()

    def _start_traces(self, resource: Resource, tracing: TracingMiddleware) -> None:
        # TracingMiddleware has decided before a span begins.
        self._tracers = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        exporter = otlp.GuardedSpanExporter(otlp.span_exporter(), self._traces_breaker)
        self._tracers.add_span_processor(BatchSpanProcessor(exporter))
        if self._settings.enable_database_tracing:
            from portfolio.observability.tracing import CommandSpans  # noqa: PLC0415

            self._database.listeners.append(CommandSpans(self._tracers))
        tracing.start(self._tracers)


def _breaker(name: str) -> Breaker:
    return Breaker(
        name,
        failures=_FAILURES,
        reset_s=_RETRY_AFTER_S,
        successes=1,
        counts=lambda _: True,
        level=logging.DEBUG,  # the exporter logs the cause
    )


def _uses_standard(own: str, *standard: str) -> bool:
    """Return whether a standard variable applies: it is set, and the service's own is not.

    Args:
        own: ``INTERVAL`` or ``TIMEOUT``.
        standard: the equivalent variables of the specification, without ``OTEL_``.
    """
    if os.environ.get(f"OTEL_METRICS_EXPORT_{own}_SECONDS"):
        return False
    return any(os.environ.get(f"OTEL_{name}") for name in standard)


def _is_enabled(signal: str) -> bool:
    return os.environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower() != "none"


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
