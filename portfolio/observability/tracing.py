"""Spans: one for each sampled request and, where enabled, one for each of its commands."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.pymongo import CommandTracer
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.semconv.attributes.client_attributes import CLIENT_ADDRESS
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.semconv.attributes.url_attributes import URL_PATH
from opentelemetry.trace import (
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pymongo.monitoring import CommandFailedEvent, CommandStartedEvent

from portfolio.config import Settings
from portfolio.observability.logging import request_id
from portfolio.observability.metrics import ENDPOINT, known_method
from portfolio.observability.trace_context import TraceContext, trace_context, unsampled

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_CARRIER = {"traceparent": "HTTP_TRACEPARENT", "tracestate": "HTTP_TRACESTATE"}
_extract = TraceContextTextMapPropagator().extract


class TracingMiddleware:
    """WSGI middleware that decides whether a request is traced, and makes its span.

    The caller's decision holds; without one, a fraction of the requests is sampled. ``listeners``
    are those of the MongoDB client.

    OpenTelemetry's instrumentation of Flask costs requests that are not sampled as much, and puts
    queries into spans, which carry names of portfolios.
    """

    def __init__(self, app: WSGIApplication, settings: Settings, listeners: list[Any]) -> None:
        self._app = app
        self._settings = settings
        self._sample_rate = settings.trace_sample_rate
        self._listeners = listeners
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        parent = trace_context.get()
        sampled = parent.sampled if parent is not None else random.random() < self._sample_rate
        if not sampled or self._tracer is None:
            trace_context.set(unsampled(parent))
            return self._app(environ, start_response)
        headers = {name: environ[key] for name, key in _CARRIER.items() if key in environ}
        method = known_method(environ["REQUEST_METHOD"])
        with self._tracer.start_as_current_span(
            method,
            _extract(headers),
            SpanKind.SERVER,
            {
                HTTP_REQUEST_METHOD: method,
                # WSGI decodes paths as Latin-1.
                URL_PATH: environ["PATH_INFO"].encode("latin-1").decode(errors="replace"),
                CLIENT_ADDRESS: environ.get("REMOTE_ADDR", ""),
                "request.id": request_id.get(),
            },
        ) as span:
            own = span.get_span_context()
            ids = format_trace_id(own.trace_id), format_span_id(own.span_id)
            trace_context.set(TraceContext(*ids, True))
            return self._app(environ, _record_response(span, method, environ, start_response))

    def start(self, origin: Resource, exporter: Any) -> None:
        """Trace from now on, in the worker: export the spans of ``origin`` by ``exporter``."""
        # This middleware has decided before a span begins.
        self._provider = TracerProvider(ALWAYS_ON, origin, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(__name__)
        if self._settings.traces_commands:
            self._listeners.append(CommandSpans(self._tracer))

    def shutdown(self) -> None:
        """Export what is left."""
        if self._provider is not None:
            self._provider.shutdown()


class CommandSpans(CommandTracer):
    """A PyMongo listener that makes a child span of each command of a sampled request.

    Pings in the background and the commands of other requests are not traced.
    """

    def __init__(self, tracer: Tracer) -> None:
        super().__init__(tracer, failed_hook=_omit_message)

    def started(self, event: CommandStartedEvent) -> None:
        """Begin a span; called by PyMongo."""
        # A span that has ended is no parent: the body of a streamed response is read after it.
        if get_current_span().is_recording():
            super().started(event)


def _omit_message(span: Span, event: CommandFailedEvent) -> None:
    """Replace MongoDB's message, which may have the command in it, and so names of portfolios."""
    span.set_status(StatusCode.ERROR, str(event.failure.get("codeName", "")))


def _record_response(
    span: Span, method: str, environ: WSGIEnvironment, start_response: StartResponse
) -> StartResponse:
    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        endpoint, code = environ.get(ENDPOINT), int(status[:3])
        span.update_name(f"{method} {endpoint or 'unmatched'}")  # not the raw path: it is unbounded
        if endpoint:
            span.set_attribute(HTTP_ROUTE, endpoint)
        span.set_attribute(HTTP_RESPONSE_STATUS_CODE, code)
        if code >= 500:
            span.set_attribute(ERROR_TYPE, str(code))
            span.set_status(StatusCode.ERROR)
        return start_response(status, headers, exc_info)

    return start
