"""The health endpoints (CONTRACT.md section 5)."""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, Response

from portfolio.api.openapi.annotations import Result, describe
from portfolio.api.responses import json_response
from portfolio.api.services import services
from portfolio.config import SERVICE, VERSION
from portfolio.observability.health_report import all_healthy
from portfolio.timestamps import rfc3339, utc_now

blueprint = Blueprint("health", __name__)


@blueprint.get("/")
@describe(
    "getServiceInfo",
    description="Does not ask MongoDB. Read `/health/ready` to learn whether requests can be "
    "served.",
    result=Result("Name, version and features", "ServiceInfo"),
)
def index() -> Response:
    """Get the service's name, version and features."""
    settings = services().settings
    signals = settings.signals
    return json_response(
        {
            "message": "GlobeCo Portfolio Service",
            "version": VERSION,
            "environment": settings.profile,
            "status": "operational",
            "features": {
                "tracing": "traces" in signals,
                "database_tracing": settings.traces_commands,
                "metrics": "metrics" in signals,
                "validation_cache": settings.enable_validation_caching,
                "circuit_breaker": settings.enable_circuit_breaker,
                "request_logging": settings.enable_request_logging,
            },
        }
    )


@blueprint.get("/health")
@describe(
    "getHealth",
    description="Does not ask MongoDB.",
    result=Result("OK", example="OK", media_types=("text/plain",)),
)
def health() -> Response:
    """Say OK."""
    return Response("OK", mimetype="text/plain")


@blueprint.get("/health/live")
@describe(
    "getLiveness",
    description="For liveness probes: 200 also while MongoDB is down.",
    result=Result("It responds", "Liveness"),
)
def live() -> Response:
    """Check whether the process responds."""
    return _probe("liveness", "alive", time.perf_counter(), cached=False)


@blueprint.get("/health/ready")
@describe(
    "getReadiness",
    description="For readiness probes: 503 within 5 seconds of an outage of MongoDB, and while the "
    "service shuts down.",
    result=Result("Ready", "Readiness"),
    other=Result("Not ready", "Readiness", status=503),
)
def ready() -> Response:
    """Check whether requests can be served."""
    started_at = time.perf_counter()
    report = services().health
    found = report.readiness()
    is_ready = all_healthy(found) and not report.draining
    status = "ready" if is_ready else "not_ready"
    return _probe("readiness", status, started_at, 200 if is_ready else 503, checks=found)


@blueprint.get("/health/startup")
@describe(
    "getStartup",
    description="For startup probes: once 200, always 200.",
    result=Result("Started", "Startup"),
    other=Result("Not started", "Startup", status=503),
)
def startup() -> Response:
    """Check whether MongoDB was reached since the start."""
    started = services().database.health.started
    status = "started" if started else "starting"
    return _probe("startup", status, time.perf_counter(), 200 if started else 503)


@blueprint.get("/health/detailed")
@describe(
    "getHealthReport",
    description="For operators: MongoDB, circuit breakers, validation cache and telemetry, over "
    "all workers.",
    result=Result("Healthy", "HealthReport"),
    other=Result("A part is unhealthy", "HealthReport", status=503),
)
def detailed() -> Response:
    """Get the state of each part of the service."""
    started_at = time.perf_counter()
    report = services().health
    workers = report.workers()
    found = report.detailed(workers)
    healthy = all_healthy(found)
    return _probe(
        "detailed",
        "healthy" if healthy else "unhealthy",
        started_at,
        200 if healthy else 503,
        version=VERSION,
        environment=services().settings.profile,
        checks=found,
        workers=workers,
    )


@blueprint.get("/health/metrics")
@describe(
    "getServiceMetrics",
    description="For operators: over all workers, since their start.",
    result=Result("Counts, latencies and use of resources", "ServiceMetrics"),
)
def metrics() -> Response:
    """Get counts, latencies and use of resources."""
    report = services().health
    return json_response(report.metrics(report.workers()))


def _probe(kind: str, status: str, started_at: float, code: int = 200, **more: Any) -> Response:
    body = {
        "status": status,
        "timestamp": rfc3339(utc_now()),
        "service": SERVICE,
        "probe_type": kind,
        "response_time_ms": round((time.perf_counter() - started_at) * 1000, 3),
        **more,
    }
    return json_response(body, code, {"Retry-After": "1"} if code == 503 else {})
