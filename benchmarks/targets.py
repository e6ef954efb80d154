"""The targets of the project, each beside what a run has measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.comparison import Closed
from benchmarks.growth import Size
from benchmarks.operations import (
    BULK,
    CREATE,
    GET_ONE,
    NAME_EQUALITY,
    OPERATIONS,
    PAGE,
    Operation,
)
from benchmarks.pod import P95_LIMIT_MS, Pod

RAW = "raw WSGI"
LEAN = "lean FastAPI"
SERVICE = "service"

# The least share of a baseline's rate, by operation.
_OF_RAW: dict[Operation, float] = {GET_ONE: 0.85, PAGE: 0.85, CREATE: 0.85, BULK: 0.85}
_OF_LEAN: dict[Operation, float] = {
    GET_ONE: 1.0,
    PAGE: 1.0,
    NAME_EQUALITY: 0.9,
    CREATE: 1.0,
    BULK: 1.0,
}
_MOST_P99_TO_P50 = 6.0
# One caller's median may differ by so much between two runs on one machine.
_FLAT = 2.0
_MIB_LISTED = 20.0
# The runbook's limits in milliseconds.
_RUNBOOK = {"single": 50.0, "bulk": 200.0, "health": 10.0}
_RUNBOOK_TITLES = {"single": "single operations", "bulk": "bulk of 10", "health": "liveness"}
_CAPACITY = 150.0
_CAPACITY_OF_RAW = 0.75
_MOST_CPU_OF_RAW = 1.3
_READY_S = 3.0
_MEMORY_MIB = 128.0
_ACCEPTED_P95_MS = 200.0
# "At once" in a pod: the kernel hands it its share of the CPU each tenth of a second.
_AT_ONCE_MS = 100.0
_RECOVERY_S = 2.0
_LIKE_P95_MS = 500.0
_RESOLVE_P95_MS = 100.0


@dataclass(frozen=True)
class Target:
    """One promise and what was measured."""

    subject: str
    target: str
    measured: str
    met: bool


def of_comparison(closed: Closed) -> Iterator[Target]:
    """Yield the targets that a comparison can tell of."""
    for baseline, least in ((RAW, _OF_RAW), (LEAN, _OF_LEAN)):
        for operation, share in least.items():
            figures = closed[operation.key]
            measured = figures[SERVICE].rate / figures[baseline].rate
            yield Target(
                f"{operation.title}, beside {baseline}",
                f"at least {share:g} of its rate",
                f"{measured:.2f}",
                measured >= share,
            )
    for operation in OPERATIONS:
        one = closed[operation.key][SERVICE]
        spread = one.p99 / one.p50
        yield Target(
            f"fairness: {operation.title}, 16 connections",
            f"p99 at most {_MOST_P99_TO_P50:g} times p50",
            f"{spread:.1f} times",
            spread <= _MOST_P99_TO_P50,
        )


def of_pod(pod: Pod) -> Iterator[Target]:
    """Yield the targets that a run inside the pod's limits can tell of."""
    raw = pod.raw_start
    for kind, limit in _RUNBOOK.items():
        p95 = pod.runbook[kind]
        yield Target(
            f"pod at 50/s: {_RUNBOOK_TITLES[kind]}",
            f"p95 under {limit:g} ms, aiming at {limit / 10:g}",
            f"{p95:.1f} ms",
            p95 < limit,
        )
    yield Target(
        f"pod: capacity at p95 < {P95_LIMIT_MS:g} ms",
        f"at least {_CAPACITY:g}/s",
        f"{pod.capacity:g}/s{_beside(f'{pod.raw_capacity:g}/s')}",
        pod.capacity >= _CAPACITY,
    )
    if pod.raw_capacity:
        share = pod.capacity / pod.raw_capacity
        yield Target(
            f"pod: capacity beside {RAW}",
            f"at least {_CAPACITY_OF_RAW:g} of its",
            f"{share:.2f}",
            share >= _CAPACITY_OF_RAW,
        )
    for operation in _OF_LEAN:
        if operation.key in pod.raw_costs:
            ratio = pod.costs[operation.key] / pod.raw_costs[operation.key]
            yield Target(
                f"pod at 50/s: CPU of {operation.title} beside {RAW}",
                f"at most {_MOST_CPU_OF_RAW:g} of its",
                f"{ratio:.2f}",
                ratio <= _MOST_CPU_OF_RAW,
            )
    first, last = pod.memory[len(pod.memory) // 3], pod.memory[-1]
    yield Target(
        "pod: memory after the soak",
        f"at most {_MEMORY_MIB:g} MiB, flat",
        f"{last:.0f} MiB, {last - first:+.1f} over the last two thirds",
        max(pod.memory) <= _MEMORY_MIB and last <= first * 1.05,
    )
    yield Target(
        "pod: ready",
        f"within {_READY_S:g} s",
        f"{pod.ready_s:.1f} s{_beside(f'{raw.seconds:.1f} s') if raw else ''}",
        pod.ready_s <= _READY_S,
    )
    over = pod.overload
    if over is None:
        return
    yield Target(
        "pod at 3 times capacity: what is accepted",
        f"p95 under {_ACCEPTED_P95_MS:g} ms",
        f"{over.accepted_p95:.0f} ms at {over.accepted_rate:.0f}/s",
        over.accepted_p95 < _ACCEPTED_P95_MS,
    )
    yield Target(
        "pod at 3 times capacity: the rest",
        f"503 with Retry-After at once: p95 within {_AT_ONCE_MS:g} ms",
        f"{over.refused} refused, p95 {over.refused_p95:.0f} ms, "
        f"{over.refused_without_retry_after} without Retry-After, {over.failed} failed otherwise",
        not over.failed
        and not over.refused_without_retry_after
        and not over.refused_p95 > _AT_ONCE_MS,
    )
    yield Target(
        "pod at 3 times capacity: probes",
        "all answered within 1 s",
        f"{over.probes_answered} of {over.probes}, p95 {over.probes_p95:.0f} ms",
        over.probes_answered == over.probes,
    )
    yield Target(
        "pod after the overload",
        f"full speed within {_RECOVERY_S:g} s",
        "not seen" if over.recovered_s is None else f"{over.recovered_s:g} s",
        over.recovered_s is not None and over.recovered_s <= _RECOVERY_S,
    )


def of_growth(sizes: Sequence[Size]) -> Iterator[Target]:
    """Yield the targets that a growing collection can tell of."""
    first, last = sizes[0], sizes[-1]
    span = f"{first.documents:,} to {last.documents:,} documents"
    for operation in (GET_ONE, NAME_EQUALITY, PAGE):
        before, after = first.latencies[operation.key], last.latencies[operation.key]
        yield Target(
            f"{operation.title}, {span}",
            f"flat: median less than {_FLAT:g} times",
            f"{before.p50:.2f} to {after.p50:.2f} ms",
            after.p50 < _FLAT * before.p50,
        )
    for key, title in (("like_rare", "one match"), ("like_common", "every tenth matches")):
        seen = last.latencies[key]
        yield Target(
            f"name_like on {last.documents:,}, {title}",
            f"p95 under {_LIKE_P95_MS:g} ms",
            f"{seen.p95:.0f} ms" + (f", {seen.errors} failed" if seen.errors else ""),
            seen.p95 < _LIKE_P95_MS and not seen.errors,
        )
    resolved = last.latencies["resolve"]
    yield Target(
        f"resolve 1,000 names of {last.documents:,}",
        f"p95 under {_RESOLVE_P95_MS:g} ms",
        f"{resolved.p95:.0f} ms" + (f", {resolved.errors} failed" if resolved.errors else ""),
        resolved.p95 < _RESOLVE_P95_MS and not resolved.errors,
    )
    listing = last.listing
    yield Target(
        f"v1 list of {listing.portfolios:,}",
        f"a worker grows by less than {_MIB_LISTED:g} MiB",
        f"{listing.memory_growth_mib:.1f} MiB, "
        f"{listing.megabytes:.0f} MB in {listing.seconds:.1f} s",
        listing.memory_growth_mib < _MIB_LISTED,
    )


def _beside(raw: str) -> str:
    return f" ({RAW} in the same limits: {raw})"
