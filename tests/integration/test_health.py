"""The health endpoints keep section 5 of the contract, on a real MongoDB and without one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import dns.resolver
import pytest
from flask import Flask
from flask.testing import FlaskClient

from portfolio.app import create_app
from portfolio.config import Settings
from tests.support.calls import V1, V2, refusal
from tests.support.gunicorn import wait_until

SERVICE = "globeco-portfolio-service"


@pytest.fixture
def app(app: Flask, another: Callable[..., Flask]) -> Flask:
    """An application of the test's own, which begins to count and has found nothing yet."""
    return another()


@pytest.fixture
def watched(app: Flask) -> Iterator[FlaskClient]:
    """A client of an application whose background work runs, and that has found MongoDB."""
    services = app.extensions["portfolio"]
    services.start()
    client = app.test_client()
    wait_until(lambda: client.get("/health/ready").status_code == 200, "ready")
    wait_until(
        lambda: client.get("/health/detailed").json["checks"]["database"]["server_version"],
        "the server's version is known",
    )
    yield client
    services.coordinator.unregister()


@pytest.fixture(scope="module")
def silent_dns() -> Iterator[None]:
    """A name server that never answers, in the place of the machine's."""
    with pytest.MonkeyPatch.context() as patch, socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = server.getsockname()[1]
        patch.setattr(dns.resolver, "default_resolver", resolver)
        yield


@pytest.fixture(
    scope="module",
    params=["mongodb://127.0.0.1:9", "mongodb+srv://db.example.invalid"],
    ids=["refuses", "can't be looked up"],
)
def without_database(
    request: pytest.FixtureRequest, silent_dns: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FlaskClient]:
    """A client of an application whose MongoDB is not there, once it has noticed."""
    settings = Settings.from_environment(
        {
            "MONGODB_URI": request.param,
            "MIN_POOL_SIZE": "0",
            "REQUEST_TIMEOUT_MS": "1000",
            "OTEL_SDK_DISABLED": "true",
            "PORTFOLIO_RUNTIME_DIR": str(tmp_path_factory.mktemp("run")),
        }
    )
    app = create_app(settings)
    services = app.extensions["portfolio"]
    services.start()
    client = app.test_client()
    wait_until(lambda: refusal(client.get(V2))[0] == 503, "the outage is known")
    yield client
    services.stop()


def test_the_root_names_the_service(watched: FlaskClient) -> None:
    body = watched.get("/").json
    on = {name for name, is_on in body.pop("features").items() if is_on}
    # Without OpenTelemetry there is neither tracing nor metrics, whatever the profile says.
    assert on == {"validation_cache", "circuit_breaker", "request_logging"}
    assert body == {
        "message": "GlobeCo Portfolio Service",
        "version": "2.0.0",
        "environment": "development",
        "status": "operational",
    }


def test_health_is_the_text_ok(watched: FlaskClient) -> None:
    response = watched.get("/health")
    assert (response.status_code, response.text) == (200, "OK")
    assert response.mimetype == "text/plain"


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/health/live", "alive", "liveness"),
        ("/health/ready", "ready", "readiness"),
        ("/health/startup", "started", "startup"),
    ],
)
def test_each_probe_says_what_it_is(
    watched: FlaskClient, path: str, status: str, kind: str
) -> None:
    response = watched.get(path)
    assert response.status_code == 200
    body = response.json
    assert (body["status"], body["service"], body["probe_type"]) == (status, SERVICE, kind)
    assert body["timestamp"].endswith("Z")
    assert body["response_time_ms"] >= 0


def test_live_says_whether_it_was_cached(watched: FlaskClient) -> None:
    assert watched.get("/health/live").json["cached"] is False


def test_ready_shows_what_it_rests_on(watched: FlaskClient) -> None:
    checks = watched.get("/health/ready").json["checks"]
    assert checks["database"]["status"] == "healthy"
    assert checks["database"]["response_time_ms"] > 0
    assert checks["circuit_breakers"]["status"] == "healthy"
    assert checks["circuit_breakers"]["healthy_ratio"] == 1.0


@pytest.mark.both_topologies
def test_detailed_shows_every_part_as_the_runbook_reads_it(
    watched: FlaskClient, settings: Settings
) -> None:
    watched.get(V2 + "?name=a")
    watched.get(V2 + "?name=a")

    def rested() -> Any:
        """A look between two pings."""
        response = watched.get("/health/detailed")
        pool = response.json["checks"]["database"]["pool"]
        return None if pool["in_use"] or pool["waiting"] else response

    response = wait_until(rested, "no connection is in use")
    assert response.status_code == 200
    checks = response.json["checks"]

    database = checks["database"]
    assert database["status"] == "healthy"
    assert database["server_version"].startswith("6.0.")
    is_set = "replicaSet" in settings.mongodb_uri
    assert database["topology"] == ("replica set" if is_set else "standalone")
    pool = database["pool"]
    assert set(pool) >= {"max", "min", "in_use", "available", "waiting"}
    assert (pool["max"], pool["min"], pool["available"]) == (50, 0, 50)

    breakers = checks["circuit_breakers"]
    assert breakers["status"] == breakers["overall_health"] == "healthy"
    assert breakers["total_breakers"] == breakers["healthy_breakers"] == len(breakers["breakers"])
    assert breakers["open_breakers"] == 0
    for breaker in breakers["breakers"].values():
        assert (breaker["state"], breaker["failure_count"]) == ("closed", 0)

    cache = checks["validation_cache"]
    assert cache["status"] == "healthy"
    assert (cache["size"], cache["max_size"], cache["evictions"]) == (1, 1000, 0)
    assert (cache["hits"], cache["misses"], cache["hit_rate"]) == (1, 1, 0.5)

    assert "status" in checks["telemetry"]


@pytest.mark.parametrize("signal", ["metrics", "traces"])
def test_a_signal_without_an_exporter_is_shown_as_off(
    another: Callable[..., Flask], signal: str
) -> None:
    given = Settings.from_environment({f"OTEL_{signal.upper()}_EXPORTER": "None"})
    client = another(
        otel_sdk_disabled=False,
        enable_tracing=True,
        metrics_exporter=given.metrics_exporter,
        traces_exporter=given.traces_exporter,
    ).test_client()
    on = {"metrics": signal != "metrics", "tracing": signal != "traces"}
    checks = client.get("/health/detailed").json["checks"]
    assert checks["telemetry"] == {"status": "healthy", **on}
    assert {name: client.get("/").json["features"][name] for name in on} == on
    breakers = {f"telemetry_{other}" for other in {"metrics", "traces"} - {signal}}
    assert checks["circuit_breakers"]["breakers"].keys() == breakers | {"database"}


def test_metrics_show_requests_and_the_use_of_resources(watched: FlaskClient) -> None:
    before = watched.get("/health/metrics").json["requests"]
    for path in (V2, V2, V2 + "?name="):
        watched.get(path).close()  # counted once it was sent
    assert watched.post(V2, json=[{"name": "A"}, {"name": "B"}]).status_code == 201
    response = watched.get("/health/metrics")
    assert response.status_code == 200
    body = response.json
    assert body["uptime_seconds"] > 0
    assert body["requests"]["total"] - before["total"] >= 3
    assert body["requests"]["by_status"]["400"] - before["by_status"].get("400", 0) == 1
    assert body["requests"]["latency_ms"]["p95"] >= body["requests"]["latency_ms"]["p50"] > 0
    assert body["portfolios"] == {"creations": {"v2": 2}}
    assert set(body["circuit_breakers"]) == {"database"}
    assert (body["validation_cache"]["hits"], body["validation_cache"]["size"]) == (1, 1)
    assert body["pool"]["max"] == 50
    assert 0 < body["process"]["memory_bytes"] <= body["process"]["max_memory_bytes"]
    assert body["process"]["cpu_seconds"] > 0


def test_without_mongodb_the_process_lives_and_says_that_it_cannot_serve(
    without_database: FlaskClient,
) -> None:
    client = without_database
    assert client.get("/health/live").status_code == 200
    assert client.get("/health").status_code == 200
    assert client.get("/").status_code == 200
    for path, status in (
        ("/health/ready", "not_ready"),
        ("/health/startup", "starting"),
        ("/health/detailed", None),
    ):
        response = client.get(path)
        assert response.status_code == 503, path
        assert response.headers["Retry-After"]
        assert status in (None, response.json["status"])
    assert client.get("/health/ready").json["checks"]["database"]["status"] == "unhealthy"


def test_without_mongodb_api_calls_get_503_and_when_to_come_back(
    without_database: FlaskClient,
) -> None:
    calls = [
        without_database.get(V1),
        without_database.get(V2),
        without_database.get("/api/v1/portfolio/0123456789abcdef01234567"),
        without_database.post(V1, json={"name": "Growth"}),
        without_database.post(V2, json=[{"name": "Growth"}]),
    ]
    for response in calls:
        status, detail = refusal(response)
        assert status == 503
        assert detail
        assert int(response.headers["Retry-After"]) >= 1


def test_without_mongodb_bad_input_is_still_told_apart(without_database: FlaskClient) -> None:
    assert without_database.post(V1, json={}).status_code == 422
    assert without_database.get(V2 + "?name=").status_code == 400
    assert without_database.get("/nowhere").status_code == 404
