"""What is known of the service's health; no check waits on the network."""

from __future__ import annotations

import os
import resource
import time
from datetime import UTC, datetime
from typing import Any

from portfolio.components import Components
from portfolio.config import SERVICE

FAST_SERVICE = f"{SERVICE}-fast"

Check = dict[str, Any]

_BORN = time.monotonic()


def timestamp() -> str:
    """The time now as the API writes it: RFC 3339, UTC, milliseconds, Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")[:23] + "Z"


def readiness(parts: Components) -> dict[str, Check]:
    """What decides whether requests can be served: MongoDB has answered, no breaker is open."""
    states = [breaker.state for breaker in parts.breakers]
    closed = states.count("closed")
    return {
        "database": _database(parts),
        "circuit_breakers": {
            "status": _status("open" not in states),
            "healthy_ratio": closed / len(states) if states else 1.0,
        },
    }


def detailed(parts: Components) -> dict[str, Check]:
    """Every part's state."""
    database = parts.database
    breakers = {breaker.name: breaker.snapshot() for breaker in parts.breakers}
    states = [breaker["state"] for breaker in breakers.values()]
    statistics = parts.validation_cache.statistics()
    return {
        "database": _database(parts)
        | {
            "server_version": database.server_version,
            "topology": database.topology,
            "pool": database.pool._asdict(),
        },
        "circuit_breakers": {
            "status": _status("open" not in states),
            "total_breakers": len(states),
            "healthy_breakers": states.count("closed"),
            "open_breakers": states.count("open"),
            "overall_health": "healthy" if states.count("closed") == len(states) else "degraded",
            "breakers": breakers,
        },
        "validation_cache": {"status": "healthy" if parts.validation_cache.enabled else "disabled"}
        | statistics._asdict()
        | {"hit_rate": round(statistics.hit_rate, 4)},
    }


def metrics(parts: Components) -> dict[str, Any]:
    """Counts and use of resources of this worker."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    found = detailed(parts)
    return {
        "service": SERVICE,
        "timestamp": timestamp(),
        "uptime_seconds": round(time.monotonic() - _BORN, 3),
        "circuit_breakers": found["circuit_breakers"]["breakers"],
        "validation_cache": found["validation_cache"],
        "pool": found["database"]["pool"],
        "process": {
            "pid": os.getpid(),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
            "max_memory_bytes": usage.ru_maxrss * 1024,
        },
    }


def all_healthy(checks: dict[str, Check]) -> bool:
    """Whether none of ``checks`` is unhealthy; a part that is switched off is not."""
    return all(check["status"] != "unhealthy" for check in checks.values())


def _database(parts: Components) -> Check:
    return {
        "status": _status(parts.database.reachable),
        "response_time_ms": round(parts.database.ping_ms, 3),
    }


def _status(healthy: bool) -> str:
    return "healthy" if healthy else "unhealthy"
