"""OTLP exporters, guarded by a circuit breaker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

import pybreaker
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import (
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    ScopeMetrics,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from portfolio.config import ConfigurationError
from portfolio.observability.otlp_transport import transport_arguments, transport_module
from portfolio.scheduling import yield_to_hub
from portfolio.storage.breaker import Breaker

GRPC = "grpc"
HTTP = "http/protobuf"
_GRPC_EXPORTER = "opentelemetry.exporter.otlp.proto.grpc"

T = TypeVar("T")

# Encoding this many takes half a millisecond.
_ITEMS_AT_A_TIME = 10

_DEFAULT_ENDPOINTS = {GRPC: "http://localhost:4317", HTTP: "http://localhost:4318"}


def protocol(signal: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the protocol for ``signal``, ``traces`` or ``metrics``: HTTP unless gRPC is set."""
    variables = f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
    return GRPC if _first(environ, *variables) == GRPC else HTTP


def endpoint(signal: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the URL that ``signal``, ``traces`` or ``metrics``, is sent to.

    Beyond the OpenTelemetry specification, for existing manifests (section 7 of the contract): an
    endpoint without a scheme is plain HTTP, and its port 4317, which is gRPC's, means 4318 where
    the protocol is HTTP.
    """
    chosen = protocol(signal, environ)
    own = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip()
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    if own:
        return own if "://" in own else f"http://{own}"
    if not base:
        base = _DEFAULT_ENDPOINTS[chosen]
    elif "://" not in base:
        base = base.rstrip("/")
        if chosen == HTTP and base.endswith(":4317"):
            base = base.removesuffix("4317") + "4318"
        base = f"http://{base}"
    return base if chosen == GRPC else f"{base.rstrip('/')}/v1/{signal}"


def load() -> None:
    """Import the transports before the fork, so that workers share their memory.

    Raises:
        ConfigurationError: the environment selects gRPC, and its exporter is not installed.
    """
    for signal in ("metrics", "traces"):
        if protocol(signal) == GRPC:
            _require_grpc(signal)
        else:
            import_module(transport_module(endpoint(signal)))


def metric_exporter(timeout_s: float | None = None) -> MetricExporter:
    """Return the metric exporter that the environment selects.

    Args:
        timeout_s: seconds that an export may take, including retries; by default from the
            environment, or 10.
    """
    # gRPC is imported only where it is used, and in the worker: it does not survive a fork.
    if protocol("metrics") == GRPC:
        _let_grpc_yield()
        from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc  # noqa: PLC0415

        return grpc.OTLPMetricExporter(endpoint("metrics"), timeout=timeout_s)
    return OTLPMetricExporter(
        endpoint("metrics"), timeout=timeout_s, **transport_arguments(endpoint("metrics"))
    )


def span_exporter(timeout_s: float | None = None) -> SpanExporter:
    """Return the span exporter that the environment selects.

    Args:
        timeout_s: seconds that an export may take, including retries; by default from the
            environment, or 10.
    """
    if protocol("traces") == GRPC:
        _let_grpc_yield()
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc  # noqa: PLC0415

        return grpc.OTLPSpanExporter(endpoint("traces"), timeout=timeout_s)
    return OTLPSpanExporter(
        endpoint("traces"), timeout=timeout_s, **transport_arguments(endpoint("traces"))
    )


class GuardedMetricExporter(MetricExporter):
    """Exports the SDK's metrics and the histograms, unless the breaker is open.

    Args:
        exporter: sends them.
        breaker: opens after failures, so that an unavailable collector costs nothing.
        histograms: returns their current data.
    """

    def __init__(
        self,
        exporter: MetricExporter,
        breaker: Breaker,
        histograms: Callable[[], Sequence[Metric]],
    ) -> None:
        super().__init__()
        self._exporter = exporter
        self._breaker = breaker
        self._histograms = histograms
        self._scope = InstrumentationScope(__name__)

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Send; called by the reader at each interval and at shutdown."""

        def send() -> bool:
            # The encoder expects one entry for each resource, so extend the SDK's own.
            collected = metrics_data.resource_metrics[0]
            own = ScopeMetrics(self._scope, self._histograms(), "")
            every = replace(collected, scope_metrics=[*collected.scope_metrics, own])
            result = self._exporter.export(MetricsData([every]), timeout_millis)
            return result is MetricExportResult.SUCCESS

        sent = _guarded(self._breaker, send)
        return MetricExportResult.SUCCESS if sent else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Do nothing: nothing is buffered."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Abandon exports in progress."""
        self._exporter.shutdown()


class GuardedSpanExporter(SpanExporter):
    """Exports spans; drops them while the breaker is open.

    Args:
        exporter: sends them.
        breaker: opens after failures.
    """

    def __init__(self, exporter: SpanExporter, breaker: Breaker) -> None:
        self._exporter = exporter
        self._breaker = breaker

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send; called by the processor for each batch."""
        paced = _Paced(spans)
        sent = _guarded(
            self._breaker, lambda: self._exporter.export(paced) is SpanExportResult.SUCCESS
        )
        return SpanExportResult.SUCCESS if sent else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """Abandon exports in progress."""
        self._exporter.shutdown()


class _Paced(list[T]):
    """A list that yields to requests every few items, while the encoder iterates over it."""

    def __iter__(self) -> Iterator[T]:
        for index, item in enumerate(super().__iter__()):
            if index % _ITEMS_AT_A_TIME == 0:
                yield_to_hub()
            yield item


class _NotSentError(Exception):
    pass


def _guarded(breaker: Breaker, send: Callable[[], bool]) -> bool:
    def attempt() -> bool:
        if not send():
            raise _NotSentError
        return True

    try:
        return breaker.call(attempt)
    except (pybreaker.CircuitBreakerError, _NotSentError):
        return False


def _first(environ: Mapping[str, str], *variables: str) -> str:
    for variable in variables:
        value = environ.get(variable, "").strip().lower()
        if value:
            return value
    return ""


def _require_grpc(signal: str) -> None:
    """Fail at start-up, not at the first export, if the optional gRPC exporter is missing."""
    try:
        found = find_spec(_GRPC_EXPORTER) is not None
    except ModuleNotFoundError:  # a parent package is missing too
        found = False
    if not found:
        raise ConfigurationError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL=grpc (for {signal}) needs the package "
            "opentelemetry-exporter-otlp-proto-grpc, which is not installed: install "
            "deploy/requirements-grpc.txt, build the image with "
            "--build-arg LOCK=requirements-grpc.lock, or use http/protobuf"
        )


def _let_grpc_yield() -> None:
    """Make gRPC cooperate with gevent where gevent has patched this process."""
    from gevent import monkey  # noqa: PLC0415

    if monkey.is_module_patched("socket"):
        from grpc.experimental import gevent  # type: ignore[import-untyped]  # noqa: PLC0415

        gevent.init_gevent()
