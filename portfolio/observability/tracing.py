"""Spans: one for each sampled request and, where enabled, one for each of its commands."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, request
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.pymongo import CommandTracer
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import HTTP_RESPONSE_STATUS_CODE
from opentelemetry.trace import (
    Span,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
)
from pymongo.monitoring import CommandFailedEvent, CommandStartedEvent

from portfolio.config import Settings
from portfolio.observability.logging import request_id
from portfolio.observability.trace_context import TraceContext, trace_context, unsampled

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# In the WSGI environment of a sampled request.
_SAMPLED = "portfolio.sampled"
# What the instrumentation may read of a request. Queries carry names of portfolios, which don't
# belong into spans, and each further attribute costs time until it is exported. Nothing uses
# baggage, and parsing it takes time in the square of its spaces.
_VISIBLE = (
    "REQUEST_METHOD",
    "PATH_INFO",
    "REMOTE_ADDR",
    "HTTP_TRACEPARENT",
    "HTTP_TRACESTATE",
)


class TracingMiddleware:
    """WSGI middleware around Flask that decides whether a request is traced.

    The caller's decision holds; without one, a fraction of the requests is sampled. Only sampled
    requests enter the Flask instrumentation. ``listeners`` are those of the MongoDB client.
    """

    def __init__(self, app: Flask, settings: Settings, listeners: list[Any]) -> None:
        self._app = app
        self._wsgi_app: WSGIApplication = app.wsgi_app
        self._settings = settings
        self._sample_rate = settings.trace_sample_rate
        self._listeners = listeners
        self._provider: TracerProvider | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        parent = trace_context.get()
        sampled = parent.sampled if parent is not None else random.random() < self._sample_rate
        if sampled and self._provider is not None:
            environ[_SAMPLED] = True
            return self._wsgi_app(environ, _record_status(start_response))
        trace_context.set(unsampled(parent))
        return self._wsgi_app(environ, start_response)

    def start(self, origin: Resource, exporter: Any) -> None:
        """Trace from now on, in the worker: export the spans of ``origin`` by ``exporter``.

        The instrumentation's hooks begin and end the span. Its wrapper of ``wsgi_app`` is removed:
        RequestContextMiddleware counts requests already. The hook before requests goes first, since
        any other may reject the request.
        """
        # This middleware has decided before a span begins.
        provider = TracerProvider(ALWAYS_ON, origin, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        if self._settings.traces_commands:
            self._listeners.append(CommandSpans(provider.get_tracer(__name__)))
        # PRIVATE API: opentelemetry-instrumentation-flask==0.66b1, that its hooks are the last of
        # Flask's before and after a request, and what they read of the environ. The bypass for
        # requests that are not sampled saves 20% of the CPU of GET one.
        app, outermost = self._app, self._app.wsgi_app
        FlaskInstrumentor.instrument_app(  # type: ignore[no-untyped-call]
            app,
            tracer_provider=provider,
            meter_provider=NoOpMeterProvider(),
            request_hook=_describe,
            enable_commenter=False,
        )
        app.wsgi_app = outermost  # type: ignore[method-assign]
        before = app.before_request_funcs[None]
        before.insert(0, partial(_begin_if_sampled, before.pop()))
        after = app.teardown_request_funcs[None]
        end: Any = after.pop()
        after.append(lambda error: end(error) if _SAMPLED in request.environ else None)
        self._provider = provider

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


def _describe(span: Span, _environ: dict[str, Any]) -> None:
    context = span.get_span_context()
    trace_context.set(
        TraceContext(format_trace_id(context.trace_id), format_span_id(context.span_id), True)
    )
    span.set_attribute("request.id", request_id.get())
    if request.url_rule is None:  # else the name would be the raw path, without bound
        span.update_name(f"{request.method} unmatched")


def _begin_if_sampled(begin: Callable[[], Any]) -> None:
    environ = request.environ
    if _SAMPLED not in environ:
        return
    visible = {name: environ[name] for name in _VISIBLE if name in environ}
    visible["RAW_URI"] = request.path
    request.environ = visible
    # The instrumentation reads it for excluded URLs alone; the path is enough for that.
    request.url = request.path
    try:
        begin()
    finally:
        request.environ = environ
    environ.update((name, visible[name]) for name in visible.keys() - environ.keys())


def _record_status(start_response: StartResponse) -> StartResponse:
    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        span, code = get_current_span(), int(status[:3])
        span.set_attribute(HTTP_RESPONSE_STATUS_CODE, code)
        if code >= 500:
            span.set_attribute(ERROR_TYPE, str(code))
            span.set_status(StatusCode.ERROR)
        return start_response(status, headers, exc_info)

    return start
