"""Sends one metric and one span to the collector, to check that it accepts them."""

from __future__ import annotations

import time

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from portfolio.config import Settings
from portfolio.observability import otlp as export
from portfolio.observability.instruments import COMMON
from portfolio.observability.sdk import resource

_NAME = "portfolio.telemetry_check"


def destination(signal: str) -> str:
    """Return the endpoint and the protocol of ``signal``, ``traces`` or ``metrics``."""
    return f"{export.endpoint(signal)} ({export.protocol(signal)})"


def send_metric(settings: Settings, timeout_s: float) -> bool:
    """Send a gauge with the current time; return whether it was accepted."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], resource(settings), shutdown_on_exit=False)
    meters.get_meter(__name__).create_gauge(_NAME, "s").set(time.time(), COMMON)
    collected = reader.get_metrics_data()
    exporter = export.metric_exporter(timeout_s)
    return collected is not None and exporter.export(collected) is MetricExportResult.SUCCESS


def send_span(settings: Settings, timeout_s: float) -> bool:
    """Send a span; return whether it was accepted."""
    memory = InMemorySpanExporter()
    tracers = TracerProvider(ALWAYS_ON, resource(settings), shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(memory))
    with tracers.get_tracer(__name__).start_as_current_span(_NAME):
        pass
    exporter = export.span_exporter(timeout_s)
    return exporter.export(memory.get_finished_spans()) is SpanExportResult.SUCCESS
