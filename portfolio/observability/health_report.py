"""The health report. It reads what the worker already knows and never waits on the network."""

from __future__ import annotations

import os
import resource
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from portfolio.config import SERVICE, Settings
from portfolio.observability.logging import LogLevelController
from portfolio.observability.metrics import (
    BOUNDS,
    BREAKER_STATES,
    CacheStatistics,
    HistogramData,
    Metrics,
    resident_bytes,
)
from portfolio.observability.shared_state import State
from portfolio.timestamps import rfc3339, utc_now

Check = dict[str, Any]

_STARTED_AT = time.monotonic()
_BREAKER_COUNTS = ("failure_count", "successes", "failures", "refused")
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class HealthReport:
    """Reports the health of this worker and of the other workers of its instance.

    ``other_workers`` returns what ``describe`` returned in the other workers.

    Attributes:
        draining: the worker accepts no further connections and finishes what is in flight; the
            server sets it.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        log_level_controller: LogLevelController,
        other_workers: Callable[[], list[State]],
    ) -> None:
        self._settings = settings
        self._database = metrics.database
        self._metrics = metrics
        self._log_level_controller = log_level_controller
        self._other_workers = other_workers
        self.draining = False

    def readiness(self) -> dict[str, Check]:
        """Return the checks that decide whether this worker can serve requests."""
        # No request depends on the other breakers, which guard exports.
        state = self._database.breaker.state if self._database.breaker else "closed"
        return {
            "database": self._check_database(),
            "circuit_breakers": {
                "status": _status(state != "open"),
                "healthy_ratio": float(state == "closed"),
            },
        }

    def describe(self) -> State:
        """Return the state of this worker, which the other workers read."""
        database, metrics, signals = self._database, self._metrics, self._settings.signals
        usage, memory = resource.getrusage(resource.RUSAGE_SELF), resident_bytes()
        return {
            "pid": os.getpid(),
            "database": {
                **self._check_database(),
                "server_version": database.server_version,
                "topology": database.topology,
                "pool": database.pool._asdict(),
            },
            "circuit_breakers": {each.name: each.snapshot() for each in metrics.breakers},
            "validation_cache": metrics.cache_statistics()._asdict(),
            "portfolios": metrics.portfolios,
            "requests": {
                "in_flight": metrics.requests_in_flight,
                # Method, endpoint, status, buckets, seconds.
                "durations": [
                    (*attributes, found.buckets, round(found.total, 6))
                    for attributes, found in metrics.requests.items()
                ],
            },
            "process": {
                "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
                "memory_bytes": memory,
                # The kernel counts the two in different ways.
                "max_memory_bytes": max(usage.ru_maxrss * 1024, memory),
            },
            "log_level": self._log_level_controller.level,
            "telemetry": {"metrics": "metrics" in signals, "tracing": "traces" in signals},
        }

    def workers(self) -> list[State]:
        """Return the state of each worker of the instance, this one first."""
        return [self.describe(), *self._other_workers()]

    def detailed(self, workers: list[State]) -> dict[str, Check]:
        """Return every check of ``/health/detailed``, merged over ``workers``."""
        breakers = _merge_breakers(worker["circuit_breakers"] for worker in workers)
        states = [breaker["state"] for breaker in breakers.values()]
        return {
            "database": _merge_databases([worker["database"] for worker in workers]),
            "circuit_breakers": {
                "status": _status(breakers.get("database", {}).get("state") != "open"),
                "total_breakers": len(states),
                "healthy_breakers": states.count("closed"),
                "open_breakers": states.count("open"),
                "overall_health": "healthy" if set(states) <= {"closed"} else "degraded",
                "breakers": breakers,
            },
            "validation_cache": self._merge_caches(workers),
            "telemetry": _telemetry(workers[0]["telemetry"], breakers),
        }

    def metrics(self, workers: list[State]) -> dict[str, Any]:
        """Return the counts, latencies and resource usage of ``/health/metrics``."""
        processes = [worker["process"] for worker in workers]
        return {
            "service": SERVICE,
            "timestamp": rfc3339(utc_now()),
            "uptime_seconds": round(time.monotonic() - _STARTED_AT, 3),
            "requests": _merge_requests([worker["requests"] for worker in workers]),
            "portfolios": {
                event: _sum(worker["portfolios"][event] for worker in workers)
                for event in self._metrics.portfolios
            },
            "circuit_breakers": _merge_breakers(worker["circuit_breakers"] for worker in workers),
            "validation_cache": self._merge_caches(workers),
            "pool": _sum(worker["database"]["pool"] for worker in workers),
            "process": {"pid": os.getpid(), **_sum(processes)},
            "workers": [{"pid": worker["pid"], **worker["process"]} for worker in workers],
        }

    def _check_database(self) -> Check:
        return {
            "status": _status(self._database.health.reachable),
            "response_time_ms": round(self._database.health.ping_ms, 3),
        }

    def _merge_caches(self, workers: list[State]) -> Check:
        merged = CacheStatistics(**_sum(worker["validation_cache"] for worker in workers))
        return {
            "status": "healthy" if self._settings.enable_validation_caching else "disabled",
            **merged._asdict(),
            "hit_rate": round(merged.hit_rate, 4),
        }


def all_healthy(checks: dict[str, Check]) -> bool:
    """Return whether none of ``checks`` is unhealthy; disabled parts are not."""
    return all(check["status"] != "unhealthy" for check in checks.values())


def _status(healthy: bool) -> str:
    return "healthy" if healthy else "unhealthy"


def _merge_requests(workers: list[dict[str, Any]]) -> dict[str, Any]:
    every = HistogramData()
    by_endpoint: defaultdict[str, HistogramData] = defaultdict(HistogramData)
    statuses: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for worker in workers:
        for method, endpoint, status, buckets, seconds in worker["durations"]:
            name, found = f"{method} {endpoint}", HistogramData(buckets, seconds)
            every.add(found)
            by_endpoint[name].add(found)
            statuses[status] += found.count
            if status >= "5":
                errors[name] += found.count
    return {
        "total": every.count,
        "in_flight": sum(worker["in_flight"] for worker in workers),
        "errors": errors.total(),
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
    """Sum the counts and report the worst state; thresholds are the same in all workers."""
    merged: dict[str, Check] = {}
    for breakers in workers:
        for name, found in breakers.items():
            known = merged.setdefault(name, found | dict.fromkeys(_BREAKER_COUNTS, 0))
            known["state"] = max(known["state"], found["state"], key=BREAKER_STATES.index)
            for count in _BREAKER_COUNTS:
                known[count] += found[count]
    return merged


def _telemetry(switches: dict[str, bool], breakers: dict[str, Check]) -> Check:
    """An unavailable collector makes nothing unhealthy: no request depends on it."""
    exports = {each["state"] for name, each in breakers.items() if name.startswith("telemetry_")}
    status = "healthy" if exports <= {"closed"} else "degraded"
    return {"status": status if any(switches.values()) else "disabled", **switches}


def _sum(workers: Iterable[dict[str, Any]]) -> dict[str, Any]:
    total: Counter[str] = Counter()
    for worker in workers:
        total.update(worker)
    return dict(total)
