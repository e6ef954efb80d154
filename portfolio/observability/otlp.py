"""OTLP exporters: where they send, by what transport, and guarded by a circuit breaker."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPMessage
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pybreaker

from portfolio.config import ConfigurationError
from portfolio.scheduling import yield_to_hub
from portfolio.storage.breaker import Breaker

GRPC = "grpc"
HTTP = "http/protobuf"
_PACKAGES = {
    GRPC: "opentelemetry.exporter.otlp.proto.grpc",
    HTTP: "opentelemetry.exporter.otlp.proto.http",
}
_EXPORTERS = {
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "traces": ("trace_exporter", "OTLPSpanExporter"),
}
# Encoding this many takes half a millisecond.
_SPANS_AT_A_TIME = 10
# Read before a connection is closed, so that it is not reset.
_MAX_BODY_BYTES = 64 * 1024
_DEFAULT_ENDPOINTS = {GRPC: "http://localhost:4317", HTTP: "http://localhost:4318"}

log = logging.getLogger(__name__)


def protocol(signal: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the protocol for ``signal``, ``traces`` or ``metrics``: HTTP unless gRPC is set."""
    own = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "").strip()
    chosen = own or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip()
    return GRPC if chosen.lower() == GRPC else HTTP


def endpoint(signal: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the URL that ``signal``, ``traces`` or ``metrics``, is sent to.

    Beyond the OpenTelemetry specification, for existing manifests (section 7 of the contract): an
    endpoint without a scheme is plain HTTP, and its port 4317, which is gRPC's, means 4318 where
    the protocol is HTTP.
    """
    chosen = protocol(signal, environ)
    own = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "").strip()
    if own:
        return own if "://" in own else f"http://{own}"
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip() or _DEFAULT_ENDPOINTS[chosen]
    if "://" not in base:
        base = f"http://{base.rstrip('/')}"
        if chosen == HTTP and base.endswith(":4317"):
            base = base.removesuffix("4317") + "4318"
    return base if chosen == GRPC else f"{base.rstrip('/')}/v1/{signal}"


class GuardedExporter:
    """Exports one signal to the collector, and leaves it alone for a while when it fails.

    What it needs is imported before the fork, so that workers share its memory. ``connect`` comes
    after it, since connections do not survive a fork.

    Args:
        signal: ``metrics`` or ``traces``.

    Attributes:
        breaker: the circuit breaker; while it is open, nothing is sent.

    Raises:
        ConfigurationError: the environment selects gRPC, and its exporter is not installed.
    """

    def __init__(self, signal: str) -> None:
        self._signal = signal
        self._exporter: Any = None
        # After two consecutive failures, each with its own retries, it opens for half a minute.
        self.breaker = Breaker(
            f"telemetry_{signal}",
            failures=2,
            reset_s=30.0,
            successes=1,
            counts=lambda _: True,
            level=logging.DEBUG,  # the exporter logs the cause
        )
        if protocol(signal) == HTTP:
            import_module(f"{_PACKAGES[HTTP]}.{_EXPORTERS[signal][0]}")
            if not _is_plain(signal):
                import_module("requests")
        elif find_spec(_PACKAGES[GRPC]) is None:
            raise ConfigurationError(
                f"OTEL_EXPORTER_OTLP_PROTOCOL=grpc (for {signal}) needs the package "
                "opentelemetry-exporter-otlp-proto-grpc, which is not installed: install "
                "deploy/requirements-grpc.txt, build the image with "
                "--build-arg LOCK=requirements-grpc.lock, or use http/protobuf"
            )

    def connect(self, timeout_s: float | None = None) -> None:
        """Make the exporter that the environment selects.

        An export, with its retries, may take ``timeout_s`` seconds; by default what the
        environment says, or 10.
        """
        signal, chosen = self._signal, protocol(self._signal)
        options: dict[str, Any] = {}
        if chosen == GRPC:
            _let_grpc_yield()
        elif _is_plain(signal):
            # PRIVATE API: opentelemetry-exporter-otlp-proto-http==1.45.1, the argument _transport
            # of the exporters, and the methods that they call on it. The default goes by
            # ``requests``, which knows proxies, certificates and credentials, or by urllib3; a
            # start without both executes 11% fewer instructions.
            options["_transport"] = HTTPTransport()
        module, name = _EXPORTERS[signal]
        # gRPC is imported here, in the worker: it does not survive a fork.
        kind = getattr(import_module(f"{_PACKAGES[chosen]}.{module}"), name)
        self._exporter = kind(endpoint(signal), timeout=timeout_s, **options)

    def export(self, data: Any) -> bool:
        """Send ``data``, a ``MetricsData`` or spans; return whether the collector accepted it."""

        def send() -> None:
            batch = _Paced(data) if isinstance(data, list) else data
            if self._exporter.export(batch).name != "SUCCESS":
                raise pybreaker.CircuitBreakerError  # counts as a failure

        try:
            self.breaker.call(send)
        except pybreaker.CircuitBreakerError:
            return False
        except Exception:  # must not end the thread that exports
            log.exception("export failed")
            return False
        return True

    def shutdown(self) -> None:
        """Abandon exports in progress."""
        self._exporter.shutdown()


class _Paced(list[Any]):
    """A list that yields to requests every few items, while the encoder iterates over it."""

    def __iter__(self) -> Iterator[Any]:
        for index, item in enumerate(super().__iter__()):
            if index % _SPANS_AT_A_TIME == 0:
                yield_to_hub()
            yield item


class Result(NamedTuple):
    """The head of a response, or the error in its place."""

    status_code: int | None = None
    reason: str | None = None
    error: Exception | None = None
    fields: HTTPMessage = HTTPMessage()

    def headers(self) -> HTTPMessage:
        """Return the headers, under names in any case."""
        return self.fields


class HTTPTransport:
    """Sends to a collector over plain HTTP by the standard library, each request by itself.

    It takes the place of OpenTelemetry's ``BaseHTTPTransport``.
    """

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
        data: bytes | None = None,
    ) -> Result:
        """Send a request and return what came of it.

        ``url`` begins with ``http://``; ``timeout``, in seconds, bounds each wait.
        """
        parts = urlsplit(url)
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
        try:
            connection.request(method, target, data, headers or {})
            response = connection.getresponse()
            response.read(_MAX_BODY_BYTES)
            return Result(response.status, response.reason, None, response.headers)
        except (OSError, HTTPException) as error:
            return Result(error=error)
        finally:
            connection.close()

    def is_connection_error(self, error: Exception | None) -> bool:
        """Return whether ``error`` is one that ``request`` returns."""
        return error is not None

    def close(self) -> None:
        """Do nothing: no connection outlives its request."""


def _is_plain(signal: str) -> bool:
    """Return whether ``signal`` goes over plain HTTP, without a proxy."""
    given = {name.lower() for name, value in os.environ.items() if value}
    return endpoint(signal).startswith("http://") and given.isdisjoint({"http_proxy", "all_proxy"})


def _let_grpc_yield() -> None:
    """Make gRPC cooperate with gevent where gevent has patched this process."""
    from gevent import monkey  # noqa: PLC0415

    if monkey.is_module_patched("socket"):
        from grpc.experimental import gevent  # type: ignore[import-untyped]  # noqa: PLC0415

        gevent.init_gevent()
