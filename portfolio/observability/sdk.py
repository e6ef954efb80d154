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

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from portfolio.config import SERVICE, VERSION, Settings
from portfolio.observability import instruments, otlp
from portfolio.observability.metrics import CacheStatistics, Metrics
from portfolio.observability.registry import Sources
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
        tracing: the middleware that traces requests; None where tracing is off.

    Attributes:
        breakers: the circuit breakers, one for each signal that is on.
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
        self.breakers = [self._metrics_breaker] if settings.enable_metrics else []
        self.breakers += [self._traces_breaker] if settings.enable_tracing else []
        breakers = [*self.breakers, *([database.breaker] if database.breaker else [])]
        self._sources = Sources(metrics, lambda: database.pool, cache_statistics, breakers)
        self._providers: list[MeterProvider | TracerProvider] = []

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
        ending = [Thread(target=each.shutdown, daemon=True) for each in self._providers]
        for thread in ending:
            thread.start()
        deadline = time.monotonic() + _FLUSH_TIMEOUT_S
        for thread in ending:
            thread.join(max(deadline - time.monotonic(), 0))

    def _start_metrics(self, resource: Resource) -> None:
        settings, start_ns = self._settings, time.time_ns()
        exporter = otlp.GuardedMetricExporter(
            otlp.exporter(
                "metrics",
                _unless_standard(
                    settings.metrics_timeout_s,
                    "OTEL_METRICS_EXPORT_TIMEOUT_SECONDS",
                    "OTEL_EXPORTER_OTLP_TIMEOUT",
                    "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
                ),
            ),
            self._metrics_breaker,
            lambda: instruments.histograms(self._sources, start_ns),
        )
        reader = PeriodicExportingMetricReader(
            exporter,
            export_interval_millis=_unless_standard(
                settings.metrics_interval_s * 1000,
                "OTEL_METRICS_EXPORT_INTERVAL_SECONDS",
                "OTEL_METRIC_EXPORT_INTERVAL",
            ),
            export_timeout_millis=settings.metrics_timeout_s * 1000,
        )
        meters = MeterProvider([reader], resource, shutdown_on_exit=False)
        self._providers.append(meters)
        initial_requests = instruments.initial_requests(self._routes())
        instruments.register(
            meters.get_meter(SERVICE, VERSION),
            self._sources._replace(initial_requests=initial_requests),
        )

        def export_first() -> None:
            if not self._stopped.wait(_FIRST_EXPORT_AFTER_S):
                with suppress(Exception):  # logged by the exporter; the next export follows
                    meters.force_flush()

        Thread(target=export_first, name="first-export", daemon=True).start()

    def _start_traces(self, resource: Resource, tracing: TracingMiddleware) -> None:
        # TracingMiddleware has decided before a span begins.
        tracers = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        self._providers.append(tracers)
        exporter = otlp.GuardedSpanExporter(otlp.exporter("traces"), self._traces_breaker)
        tracers.add_span_processor(BatchSpanProcessor(exporter))
        if self._settings.enable_database_tracing:
            from portfolio.observability.tracing import CommandSpans  # noqa: PLC0415

            self._database.listeners.append(CommandSpans(tracers))
        tracing.start(tracers)


def _breaker(name: str) -> Breaker:
    return Breaker(
        name,
        failures=_FAILURES,
        reset_s=_RETRY_AFTER_S,
        successes=1,
        counts=lambda _: True,
        level=logging.DEBUG,  # the exporter logs the cause
    )


def _unless_standard(value: float, own: str, *standard: str) -> float | None:
    """Return ``value``; None, so that the SDK reads it, where only a standard variable is set."""
    uses_standard = any(os.environ.get(name) for name in standard)
    return None if uses_standard and not os.environ.get(own) else value


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
