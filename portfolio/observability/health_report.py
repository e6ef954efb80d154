"""What is known of the service's health; no check waits on the network."""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from portfolio.config import SERVICE
from portfolio.observability.metrics import BOUNDS, Histogram, HistogramData
from portfolio.observability.shared_state import State
from portfolio.timestamps import rfc3339

if TYPE_CHECKING:
    from portfolio.api.services import Services

FAST_SERVICE = f"{SERVICE}-fast"

Check = dict[str, Any]

_STARTED_AT = time.monotonic()
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
# From good to bad: of several workers the worst speaks for all.
_BREAKER_STATES = ("closed", "half-open", "open")


def timestamp() -> str:
    """The time now as the API writes it: RFC 3339, UTC, milliseconds, Z."""
    return rfc3339(datetime.now(UTC))


def readiness(services: Services) -> dict[str, Check]:
    """What decides whether this worker can serve: MongoDB has answered, no breaker is open."""
    states = [breaker.state for breaker in services.breakers]
    closed = states.count("closed")
    return {
        "database": _database(services),
        "circuit_breakers": {
            "status": _status("open" not in states),
            "healthy_ratio": closed / len(states) if states else 1.0,
        },
    }


def describe(services: Services) -> State:
    """Tell how this worker is, for the other workers of the instance."""
    database, settings = services.database, services.settings
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "pid": os.getpid(),
        "database": _database(services)
        | {
            "server_version": database.server_version,
            "topology": database.topology,
            "pool": database.pool._asdict(),
        },
        "circuit_breakers": {breaker.name: breaker.snapshot() for breaker in services.all_breakers},
        "validation_cache": services.validation_cache.statistics()._asdict(),
        "requests": {
            "in_flight": services.metrics.requests.in_flight,
            "endpoints": _by_endpoint(services.metrics.requests.durations),
        },
        "process": {
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
            "memory_bytes": _resident_bytes(),
            "max_memory_bytes": usage.ru_maxrss * 1024,
        },
        "log_level": services.log_level_controller.level,
        "telemetry": {
            "metrics": settings.enable_metrics and not settings.otel_sdk_disabled,
            "tracing": settings.enable_tracing and not settings.otel_sdk_disabled,
        },
    }


def workers(services: Services) -> list[State]:
    """Tell how each worker of the instance is, this one first."""
    return [describe(services), *services.coordinator.others()]


def detailed(services: Services, workers: list[State]) -> dict[str, Check]:
    """Every part's state, over all ``workers``."""
    breakers = _merge_breakers(worker["circuit_breakers"] for worker in workers)
    states = [breaker["state"] for breaker in breakers.values()]
    vital = [breakers[breaker.name]["state"] for breaker in services.breakers]
    return {
        "database": _merge_databases([worker["database"] for worker in workers]),
        "circuit_breakers": {
            "status": _status("open" not in vital),
            "total_breakers": len(states),
            "healthy_breakers": states.count("closed"),
            "open_breakers": states.count("open"),
            "overall_health": "healthy" if states.count("closed") == len(states) else "degraded",
            "breakers": breakers,
        },
        "validation_cache": _merge_caches(services, workers),
        "telemetry": _telemetry(workers[0]["telemetry"], breakers),
    }


def metrics(services: Services, workers: list[State]) -> dict[str, Any]:
    """Counts, latencies and use of resources, over all ``workers``."""
    processes = [worker["process"] for worker in workers]
    return {
        "service": SERVICE,
        "timestamp": timestamp(),
        "uptime_seconds": round(time.monotonic() - _STARTED_AT, 3),
        "requests": _merge_requests([worker["requests"] for worker in workers]),
        "circuit_breakers": _merge_breakers(worker["circuit_breakers"] for worker in workers),
        "validation_cache": _merge_caches(services, workers),
        "pool": _sum(worker["database"]["pool"] for worker in workers),
        "process": {"pid": os.getpid(), **_sum(processes)},
        "workers": [{"pid": worker["pid"], **worker["process"]} for worker in workers],
    }


def all_healthy(checks: dict[str, Check]) -> bool:
    """Whether none of ``checks`` is unhealthy; a part that is switched off is not."""
    return all(check["status"] != "unhealthy" for check in checks.values())


def _database(services: Services) -> Check:
    return {
        "status": _status(services.database.reachable),
        "response_time_ms": round(services.database.ping_ms, 3),
    }


def _status(healthy: bool) -> str:
    return "healthy" if healthy else "unhealthy"


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * _PAGE_BYTES
    except OSError:  # no Linux
        return 0


def _by_endpoint(durations: Histogram) -> dict[str, Any]:
    endpoints: dict[str, Any] = {}
    for (method, endpoint, status), found in durations.items():
        known = endpoints.setdefault(
            f"{method} {endpoint}", {"statuses": {}, "durations": HistogramData()}
        )
        known["statuses"][status] = found.count
        known["durations"].add(found)
    return {
        name: {
            "statuses": known["statuses"],
            "buckets": known["durations"].buckets,
            "seconds": round(known["durations"].total, 6),
        }
        for name, known in endpoints.items()
    }


def _merge_requests(workers: list[dict[str, Any]]) -> dict[str, Any]:
    every = HistogramData()
    statuses: Counter[str] = Counter()
    by_endpoint: dict[str, HistogramData] = {}
    errors: Counter[str] = Counter()
    for worker in workers:
        for name, endpoint in worker["endpoints"].items():
            found = HistogramData(endpoint["buckets"], endpoint["seconds"])
            by_endpoint.setdefault(name, HistogramData()).add(found)
            every.add(found)
            statuses.update(endpoint["statuses"])
            errors[name] += _errors(endpoint["statuses"])
    return {
        "total": every.count,
        "in_flight": sum(worker["in_flight"] for worker in workers),
        "errors": _errors(statuses),
        "by_status": dict(sorted(statuses.items())),
        "latency_ms": _latency(every),
        "bounds_ms": [bound * 1000 for bound in BOUNDS],
        "endpoints": {
            name: {
                "count": found.count,
                "errors": errors[name],
                "latency_ms": _latency(found),
                "buckets": found.buckets,
            }
            for name, found in sorted(by_endpoint.items())
        },
    }


def _errors(statuses: Mapping[str, int]) -> int:
    return sum(count for status, count in statuses.items() if status >= "5")


def _latency(durations: HistogramData) -> dict[str, float]:
    mean = durations.total / durations.count if durations.count else 0.0
    quantiles = {name: durations.quantile(share) for name, share in _QUANTILES.items()}
    return {name: round(value * 1000, 3) for name, value in {"mean": mean, **quantiles}.items()}


def _merge_databases(workers: list[Check]) -> Check:
    return workers[0] | {
        "status": _status(all(worker["status"] == "healthy" for worker in workers)),
        "response_time_ms": max(worker["response_time_ms"] for worker in workers),
        "pool": _sum(worker["pool"] for worker in workers),
    }


def _merge_breakers(workers: Iterable[dict[str, Check]]) -> dict[str, Check]:
    """Sum what was counted; the worst state speaks for all, thresholds are the same in all."""
    merged: dict[str, Check] = {}
    for breakers in workers:
        for name, found in breakers.items():
            known = merged.get(name)
            if known is None:
                merged[name] = dict(found)
                continue
            known["state"] = max(known["state"], found["state"], key=_BREAKER_STATES.index)
            for count in ("failure_count", "successes", "failures", "refused", "transitions"):
                known[count] += found[count]
    return merged


def _merge_caches(services: Services, workers: list[State]) -> Check:
    merged = _sum(worker["validation_cache"] for worker in workers)
    lookups = merged["hits"] + merged["misses"]
    return {
        "status": "healthy" if services.validation_cache.enabled else "disabled",
        **merged,
        "hit_rate": round(merged["hits"] / lookups, 4) if lookups else 0.0,
    }


def _telemetry(switches: dict[str, bool], breakers: dict[str, Check]) -> Check:
    """A collector that is away makes nothing unhealthy: no request depends on it."""
    status = "disabled"
    if any(switches.values()):
        exports = [
            found["state"] for name, found in breakers.items() if name.startswith("telemetry_")
        ]
        status = "healthy" if set(exports) <= {"closed"} else "degraded"
    return {"status": status, **switches}


def _sum(workers: Iterable[dict[str, float]]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for worker in workers:
        total.update(worker)
    return dict(total)
