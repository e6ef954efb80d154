"""The way out of the process: OTLP, behind a circuit breaker."""

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

# Half a millisecond's work.
_ITEMS_AT_A_TIME = 10

_DEFAULT_ENDPOINTS = {GRPC: "http://localhost:4317", HTTP: "http://localhost:4318"}


def protocol(signal: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the protocol for ``signal``, ``traces`` or ``metrics``: gRPC only where asked for."""
    variables = f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
    return GRPC if _first(environ, *variables) == GRPC else HTTP


def endpoint(signal: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the URL that ``signal``, ``traces`` or ``metrics``, is sent to.

    As the OpenTelemetry specification has it, and beyond it for existing manifests (section 7 of
    the contract): without a scheme the connection is plain, and port 4317, which is gRPC's, means
    4318 where the protocol is HTTP.
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
    """Load what carries exports, before the fork: its memory is shared and its time spent once.

    Left to the exporters it would be loaded in each worker, when they are made.

    Raises:
        ConfigurationError: the environment asks for gRPC, and its exporter is not installed.
    """
    for signal in ("metrics", "traces"):
        if protocol(signal) == GRPC:
            _require_grpc(signal)
        else:
            import_module(transport_module(endpoint(signal)))


def metric_exporter(timeout_s: float | None = None) -> MetricExporter:
    """Return the exporter of metrics that the environment asks for.

    Args:
        timeout_s: seconds that an export may take, retries included; by default as the
            environment says, or 10.
    """
    # gRPC is loaded only where it is used, and in the worker: it does not survive a fork.
    if protocol("metrics") == GRPC:
        _let_grpc_yield()
        from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc  # noqa: PLC0415

        return grpc.OTLPMetricExporter(endpoint("metrics"), timeout=timeout_s)
    return OTLPMetricExporter(
        endpoint("metrics"), timeout=timeout_s, **transport_arguments(endpoint("metrics"))
    )


def span_exporter(timeout_s: float | None = None) -> SpanExporter:
    """Return the exporter of spans that the environment asks for.

    Args:
        timeout_s: seconds that an export may take, retries included; by default as the
            environment says, or 10.
    """
    if protocol("traces") == GRPC:
        _let_grpc_yield()
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc  # noqa: PLC0415

        return grpc.OTLPSpanExporter(endpoint("traces"), timeout=timeout_s)
    return OTLPSpanExporter(
        endpoint("traces"), timeout=timeout_s, **transport_arguments(endpoint("traces"))
    )


class GuardedMetricExporter(MetricExporter):
    """Exports what the SDK collected, and the histograms, unless the breaker is open.

    Args:
        exporter: sends them.
        breaker: opens where sending fails, so that a collector that is gone costs nothing.
        histograms: returns them as they are.
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
        """Send; called by the reader at each interval, and at the end."""

        def send() -> bool:
            # The encoder knows one entry a resource: what is added must go into the SDK's own.
            collected = metrics_data.resource_metrics[0]
            own = ScopeMetrics(self._scope, self._histograms(), "")
            every = replace(collected, scope_metrics=[*collected.scope_metrics, own])
            result = self._exporter.export(MetricsData([every]), timeout_millis)
            return result is MetricExportResult.SUCCESS

        sent = _guarded(self._breaker, send)
        return MetricExportResult.SUCCESS if sent else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is buffered here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Give up what is in flight."""
        self._exporter.shutdown()


class GuardedSpanExporter(SpanExporter):
    """Exports spans unless the breaker is open; then they are dropped.

    Args:
        exporter: sends them.
        breaker: opens where sending fails.
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
        """Give up what is in flight."""
        self._exporter.shutdown()


class _Paced(list[T]):
    """A list whose reader, the encoder, lets requests go first every few items.

    Encoding an item takes about 50 microseconds, in which a worker serves nobody.
    """

    def __iter__(self) -> Iterator[T]:
        for index, item in enumerate(super().__iter__()):
            if index % _ITEMS_AT_A_TIME == 0:
                yield_to_hub()
            yield item


class _NotSentError(Exception):
    pass


def _guarded(breaker: Breaker, send: Callable[[], bool]) -> bool:
    try:
        with breaker.calling():
            if not send():
                raise _NotSentError
    except (pybreaker.CircuitBreakerError, _NotSentError):
        return False
    return True


def _first(environ: Mapping[str, str], *variables: str) -> str:
    for variable in variables:
        value = environ.get(variable, "").strip().lower()
        if value:
            return value
    return ""


def _require_grpc(signal: str) -> None:
    """Fail at start-up, not at the first export, where gRPC's optional exporter is missing."""
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
    """Let gRPC wait as greenlets do where gevent has patched this process; else it blocks all."""
    from gevent import monkey  # noqa: PLC0415

    if monkey.is_module_patched("socket"):
        from grpc.experimental import gevent  # type: ignore[import-untyped]  # noqa: PLC0415

        gevent.init_gevent()
