"""Where telemetry goes: the OpenTelemetry specification's variables, and existing manifests'."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from portfolio.config import ConfigurationError, Settings
from portfolio.observability.otlp import GRPC, HTTP, GuardedExporter, endpoint, protocol
from portfolio.observability.sdk import resource
from tests.support.collector import Collector
from tests.support.gunicorn import Gunicorn, wait_until

BASE = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "http://localhost:4318/v1/traces"),
        ({BASE: "http://c:4318"}, "http://c:4318/v1/traces"),
        ({BASE: "https://c/otlp/"}, "https://c/otlp/v1/traces"),
        ({BASE: "10.0.0.1:4318"}, "http://10.0.0.1:4318/v1/traces"),
        ({BASE: "10.0.0.1:4317"}, "http://10.0.0.1:4318/v1/traces"),
        ({BASE: "http://10.0.0.1:4317"}, "http://10.0.0.1:4317/v1/traces"),
        (
            {BASE: "10.0.0.1:4317", TRACES: "http://10.0.0.1:4318/v1/traces"},
            "http://10.0.0.1:4318/v1/traces",
        ),
        ({PROTOCOL: "grpc"}, "http://localhost:4317"),
        ({PROTOCOL: "grpc", BASE: "10.0.0.1:4317"}, "http://10.0.0.1:4317"),
        ({PROTOCOL: "grpc", BASE: "https://c:4317"}, "https://c:4317"),
    ],
)
def test_the_endpoint_of_traces(environ: dict[str, str], expected: str) -> None:
    assert endpoint("traces", environ) == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, HTTP),
        ({PROTOCOL: "http/protobuf"}, HTTP),
        ({PROTOCOL: "grpc"}, GRPC),
        ({PROTOCOL: "grpc", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf"}, HTTP),
        ({"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"}, GRPC),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, HTTP),
    ],
)
def test_grpc_is_spoken_only_where_it_is_asked_for(environ: dict[str, str], expected: str) -> None:
    assert protocol("metrics", environ) == expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ["metrics", "traces"]),
        ({"ENABLE_METRICS": "false"}, ["traces"]),
        ({"ENABLE_TRACING": "false"}, ["metrics"]),
        ({"OTEL_SDK_DISABLED": "true"}, []),
    ],
)
def test_each_signal_can_be_switched_off(variables: dict[str, str], expected: list[str]) -> None:
    assert Settings.from_environment(variables).signals == expected


def test_the_specifications_variables_name_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "another")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=performance")
    attributes = resource(Settings.from_environment({})).attributes
    assert (attributes["service.name"], attributes["team"]) == ("another", "performance")


@pytest.mark.parametrize("signal", ["METRICS", "TRACES"])
def test_grpc_that_is_not_installed_is_told_at_start(
    monkeypatch: pytest.MonkeyPatch, signal: str
) -> None:
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "grpc")
    GuardedExporter(signal.lower())  # it is installed here
    monkeypatch.setattr("portfolio.observability.otlp.find_spec", {}.get)
    with pytest.raises(ConfigurationError, match="opentelemetry-exporter-otlp-proto-grpc"):
        GuardedExporter(signal.lower())


class Proxy(Collector):
    """Stands between the service and a collector, and notes where it was asked to send."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        self.asked.add(path)
        return 200, b""


def test_exports_go_through_the_proxy_that_the_environment_names(
    export: Callable[..., Gunicorn],
) -> None:
    proxy = Proxy()
    try:
        export("collector.invalid:4318", HTTP_PROXY=f"http://{proxy.start_http()}")
        wanted = "http://collector.invalid:4318/v1/metrics"
        wait_until(lambda: wanted in proxy.asked, "an export by way of the proxy")
    finally:
        proxy.stop()
