"""An OTLP receiver for tests: HTTP and gRPC, by opentelemetry-proto's own messages and services.

It keeps what a collector's Prometheus exporter would show: the newest value of each series, under
the name that the collector gives it.
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_service
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, Metric

from tests.support.http_server import HTTPServer, Reply, Request

_UNITS = {"s": "seconds", "By": "bytes"}


class Series(NamedTuple):
    """What tells one series from another; ``attributes`` are sorted pairs."""

    name: str
    attributes: tuple[tuple[str, str], ...]
    instance: str


def prometheus_name(metric: Metric) -> str:
    """Return the name that the collector gives ``metric``: its rules for units and totals."""
    name = metric.name.replace(".", "_")
    unit = "" if metric.unit.startswith("{") else _UNITS.get(metric.unit, metric.unit)
    if unit == "1":
        unit = "ratio" if metric.HasField("gauge") else ""
    if unit and unit not in name.split("_"):
        name = f"{name}_{unit}"
    counts = metric.HasField("sum") and metric.sum.is_monotonic
    return f"{name}_total" if counts and not name.endswith("_total") else name


class Collector:
    """Receives what is exported to it, over HTTP or gRPC, on a free port each.

    Attributes:
        series: the newest value of each series; of a histogram its count.
        points: the newest point of each series, as it came.
        updated: when each series last came, by the monotonic clock.
        resources: the attributes of each ``service.instance.id``.
        spans: every span, in the order of arrival.
        headers: of each HTTP export, by names in lower case.
        address: host and port.
    """

    def __init__(self) -> None:
        self.series: dict[Series, float] = {}
        self.points: dict[Series, Any] = {}
        self.updated: dict[Series, float] = {}
        self.resources: dict[str, dict[str, Any]] = {}
        self.spans: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.address = ""
        self.exports = 0
        self._lock = threading.Lock()
        self._http: HTTPServer | None = None
        self._grpc: Any = None

    def start_http(self, port: int = 0) -> str:
        """Listen for OTLP over HTTP and return the host and port."""
        self._http = HTTPServer(self._reply, port)
        self.address = self._http.address
        return self.address

    def start_grpc(self) -> str:
        """Listen for OTLP over gRPC and return the host and port."""
        # The environments that run tests on each Python have no gRPC.
        import grpc
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
            add_MetricsServiceServicer_to_server as add_metrics,
        )
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
            add_TraceServiceServicer_to_server as add_traces,
        )

        self._grpc = grpc.server(ThreadPoolExecutor(4))
        add_metrics(_Metrics(self), self._grpc)
        add_traces(_Traces(self), self._grpc)
        port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._grpc.start()
        self.address = f"127.0.0.1:{port}"
        return self.address

    def stop(self) -> None:
        """Listen no more."""
        if self._http is not None:
            self._http.stop()
        if self._grpc is not None:
            self._grpc.stop(0)

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Take one HTTP export and return status and body of the answer; for tests to override."""
        if path == "/v1/metrics":
            self.take_metrics(metrics_service.ExportMetricsServiceRequest.FromString(body))
        elif path == "/v1/traces":
            self.take_spans(trace_service.ExportTraceServiceRequest.FromString(body))
        else:
            return 404, b""
        return 200, b""

    def take_metrics(self, request: Any) -> None:
        """Keep the newest value of each series."""
        with self._lock:
            self.exports += 1
            for resource_metrics in request.resource_metrics:
                resource = _attributes(resource_metrics.resource.attributes)
                instance = resource["service.instance.id"]
                self.resources[instance] = resource
                for scope in resource_metrics.scope_metrics:
                    for metric in scope.metrics:
                        self._take_metric(metric, instance)

    def take_spans(self, request: Any) -> None:
        """Keep every span."""
        with self._lock:
            self.spans += [
                span
                for resource_spans in request.resource_spans
                for scope in resource_spans.scope_spans
                for span in scope.spans
            ]

    def total(self, name: str, **attributes: str) -> float:
        """Return the sum of every series of that name with these attributes, over all workers."""
        return sum(self.matching(name, **attributes).values())

    def matching(self, name: str, **attributes: str) -> dict[Series, float]:
        """Return the series of that name which carry these attributes."""
        with self._lock:
            return {
                series: value
                for series, value in self.series.items()
                if series.name == name and attributes.items() <= dict(series.attributes).items()
            }

    def snapshot(self, younger_than_s: float) -> dict[Series, Any]:
        """Return the newest point of each series that came within so many seconds."""
        oldest = time.monotonic() - younger_than_s
        with self._lock:
            return {
                series: point
                for series, point in self.points.items()
                if self.updated[series] >= oldest
            }

    def names(self) -> set[str]:
        """Return the Prometheus names that arrived."""
        with self._lock:
            return {series.name for series in self.series}

    def _take_metric(self, metric: Metric, instance: str) -> None:
        kind = metric.WhichOneof("data")
        data = getattr(metric, kind)
        if kind != "gauge":
            assert data.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE, metric.name
        for point in data.data_points:
            attributes = tuple(sorted(_attributes(point.attributes).items()))
            series = Series(prometheus_name(metric), attributes, instance)
            self.points[series] = point
            self.updated[series] = time.monotonic()
            if kind == "histogram":
                self.series[series] = point.count
            else:
                self.series[series] = getattr(point, point.WhichOneof("value"))

    def _reply(self, request: Request) -> Reply | None:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        body = request.body
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        status, answer = self.answer(request.path, body)
        # Status 0: the test wants the connection cut.
        return Reply(status, answer, {"Content-Type": "application/x-protobuf"}) if status else None


class _Metrics:
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802
        self._collector.take_metrics(request)
        return metrics_service.ExportMetricsServiceResponse()


class _Traces:
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802
        self._collector.take_spans(request)
        return trace_service.ExportTraceServiceResponse()


def attributes_of(span: Any) -> dict[str, Any]:
    """Return a span's attributes."""
    return _attributes(span.attributes)


def _attributes(pairs: Iterator[Any]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
