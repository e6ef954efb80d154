"""Sends one metric and one span to the collector, to check that it accepts them."""

from __future__ import annotations

import time
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from portfolio.config import Settings
from portfolio.observability import otlp
from portfolio.observability.instruments import COMMON
from portfolio.observability.sdk import resource

_NAME = "portfolio.telemetry_check"


def destination(signal: str) -> str:
    """Return the endpoint and the protocol of ``signal``, ``traces`` or ``metrics``."""
    return f"{otlp.endpoint(signal)} ({otlp.protocol(signal)})"


def send(signal: str, settings: Settings, timeout_s: float) -> bool:
    """Send a gauge with the current time, or a span; return whether it was accepted."""
    if signal == "metrics":
        reader = InMemoryMetricReader()
        meters = MeterProvider([reader], resource(settings), shutdown_on_exit=False)
        meters.get_meter(__name__).create_gauge(_NAME, "s").set(time.time(), COMMON)
        data: Any = reader.get_metrics_data()
    else:
        memory = InMemorySpanExporter()
        tracers = TracerProvider(ALWAYS_ON, resource(settings), shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(memory))
        tracers.get_tracer(__name__).start_span(_NAME).end()
        data = memory.get_finished_spans()
    sent = otlp.exporter(signal, timeout_s).export(data)
    return sent in (MetricExportResult.SUCCESS, SpanExportResult.SUCCESS)
