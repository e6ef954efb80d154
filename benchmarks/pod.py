"""The service inside a pod's limits: start, capacity, memory, and three times what it can carry."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from benchmarks.arena import Arena
from benchmarks.cgroup import Group, joining, pod_limits
from benchmarks.comparison import Point
from benchmarks.load import Phase, Sample, open_loop, percentile, summarise
from benchmarks.operations import BULK, CREATE, GET_ONE, LIVE, MIX, OPERATIONS, PAGE
from benchmarks.servers import Server

P95_LIMIT_MS = 50.0
_STARTS = 3
_STEP = 25
_FIRST = 25
_MOST = 1000
_STEP_S = 5.0
_SOAK_S = 30.0
_COST_ROUNDS = 7
_COST_S = 2.0
_WARM_RATE = 50
_WARM_S = 3.0
_OVERLOAD_S = 8.0
_AFTER_S = 6.0
_WINDOW_S = 0.25
# Kubernetes waits no longer for a probe unless told to.
_PROBE_TIMEOUT_MS = 1000.0
# The mix, and a probe with every tenth request of it.
_PROBED = MIX | {LIVE: 2}
# With those probes, the mix at 50 a second.
_RUNBOOK_RATE = 55
_RUNBOOK_S = 12.0
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Start:
    """A start: seconds on the clock, and of the CPU, until the readiness probe says yes."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Overload:
    """Three times the capacity, for a while, and what came after."""

    asked: float
    accepted_rate: float
    accepted_p95: float
    refused: int
    refused_p95: float
    refused_without_retry_after: int
    failed: int
    probes: int
    probes_answered: int
    probes_p95: float
    recovered_s: float | None


@dataclass
class Pod:
    """What was seen; latencies in milliseconds, memory in MiB."""

    starts: list[Start] = field(default_factory=list)
    runbook: dict[str, float] = field(default_factory=dict)
    steps: list[Point] = field(default_factory=list)
    capacity: float = 0.0
    memory: list[float] = field(default_factory=list)
    overload: Overload | None = None
    costs: dict[str, float] = field(default_factory=dict)
    raw_start: Start | None = None
    raw_steps: list[Point] = field(default_factory=list)
    raw_capacity: float = 0.0
    raw_costs: dict[str, float] = field(default_factory=dict)

    @property
    def ready_s(self) -> float:
        """The median start."""
        return statistics.median(start.seconds for start in self.starts)


def measure(arena: Arena, database: str) -> Pod:
    """Run the service on ``database`` inside the pod's limits and return what was seen.

    Raises:
        NoRight: no control group can be made here.
    """
    pod = Pod()
    with pod_limits() as group:
        for _ in range(_STARTS - 1):
            with _inside(group, arena.service(database)) as (_, start):
                pod.starts.append(start)
        with _inside(group, arena.service(database)) as (server, start):
            pod.starts.append(start)
            open_loop(server.port, MIX, Phase(_WARM_RATE, _WARM_S))
            pod.runbook = _runbook(server)
            pod.steps, pod.capacity = _capacity(server)
            pod.memory = _soak(server, group, pod.capacity)
            pod.overload = _overload(server, pod.capacity)
        # What this machine gives in the same limits to a program that does nothing else.
        with _inside(group, arena.raw(database)) as (server, pod.raw_start):
            open_loop(server.port, MIX, Phase(_WARM_RATE, _WARM_S))
            pod.raw_steps, pod.raw_capacity = _capacity(server)
    pod.costs, pod.raw_costs = costs([arena.service(database), arena.raw(database)])
    return pod


@contextmanager
def _inside(group: Group, server: Server) -> Iterator[tuple[Server, Start]]:
    before = group.cpu_seconds()
    try:
        seconds = server.start(joining(group))
        yield server, Start(seconds, group.cpu_seconds() - before)
    finally:
        server.stop()


def _runbook(server: Server) -> dict[str, float]:
    """Return the 95th percentiles of single operations, bulks and probes at 50 a second."""
    samples = open_loop(server.port, _PROBED, Phase(_RUNBOOK_RATE, _RUNBOOK_S))
    single = {GET_ONE.key, PAGE.key, CREATE.key}
    return {
        "single": _p95(sample for sample in samples if sample.kind in single),
        "bulk": _p95(sample for sample in samples if sample.kind == BULK.key),
        "health": _p95(sample for sample in samples if sample.kind == LIVE.key),
    }


def costs(servers: Sequence[Server]) -> list[dict[str, float]]:
    """Return the CPU microseconds of a request of each operation at 50 a second, by server.

    Each server has a pod of its own, and they take turns of two seconds: what else the machine does
    meanwhile then hits all alike. The figures are medians over the turns. What goes on without
    requests is shared among them; between any two the processes sleep, so that little of what the
    next one needs is left in the CPU's caches.
    """
    seen: list[dict[str, list[float]]] = [{} for _ in servers]
    with ExitStack() as stack:
        pods = []
        for number, server in enumerate(servers):
            group = stack.enter_context(pod_limits(name=f"turns-{number}"))
            stack.enter_context(_inside(group, server))
            open_loop(server.port, MIX, Phase(_WARM_RATE, _WARM_S))
            pods.append((server, group, seen[number]))
        for _ in range(_COST_ROUNDS):
            for operation in OPERATIONS:
                for server, group, by_operation in pods:
                    before = group.cpu_seconds()
                    samples = open_loop(server.port, {operation: 1}, Phase(_WARM_RATE, _COST_S))
                    cost = (group.cpu_seconds() - before) / len(samples) * 1e6
                    by_operation.setdefault(operation.key, []).append(cost)
    return [
        {key: statistics.median(each) for key, each in by_operation.items()}
        for by_operation in seen
    ]


def _capacity(server: Server) -> tuple[list[Point], float]:
    """Raise the load until p95 passes its limit; return the steps and the last good rate.

    A step that fails is tried once more: one stall of the machine is not the pod's limit.
    """
    steps: list[Point] = []
    capacity = 0.0
    for rate in range(_FIRST, _MOST + 1, _STEP):
        for _ in range(2):
            load = summarise(open_loop(server.port, MIX, Phase(rate, _STEP_S)))
            carried = load.p95 < P95_LIMIT_MS and load.errors <= load.requests // 100
            if carried:
                break
        steps.append(Point(rate, load))
        if not carried:
            break
        capacity = rate
    return steps, capacity


def _soak(server: Server, group: Group, capacity: float) -> list[float]:
    """Return the memory in MiB, each second, under six tenths of ``capacity``."""
    seen: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1.0):
            seen.append(group.memory_bytes() / _MIB)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        open_loop(server.port, MIX, Phase(max(0.6 * capacity, 20.0), _SOAK_S))
    finally:
        done.set()
        watcher.join()
    return seen


def _overload(server: Server, capacity: float) -> Overload:
    asked = 3 * max(capacity, _WARM_RATE)
    samples = open_loop(
        server.port, _PROBED, Phase(asked * 1.1, _OVERLOAD_S), Phase(0.8 * asked / 3, _AFTER_S)
    )
    during = [sample for sample in samples if sample.due_s < _OVERLOAD_S]
    probes = [sample for sample in during if sample.kind == LIVE.key]
    calls = [sample for sample in during if sample.kind != LIVE.key]
    accepted = [sample for sample in calls if sample.accepted]
    refused = [sample for sample in calls if sample.status == 503]
    return Overload(
        asked=asked,
        accepted_rate=len(accepted) / _OVERLOAD_S,
        accepted_p95=_p95(accepted),
        refused=len(refused),
        refused_p95=_p95(refused),
        refused_without_retry_after=sum(not sample.retry_after for sample in refused),
        failed=len(calls) - len(accepted) - len(refused),
        probes=len(probes),
        probes_answered=sum(
            sample.accepted and sample.latency_ms < _PROBE_TIMEOUT_MS for sample in probes
        ),
        probes_p95=_p95(probes),
        recovered_s=recovery(samples, _OVERLOAD_S, _AFTER_S),
    )


def recovery(samples: Sequence[Sample], begin_s: float, seconds: float) -> float | None:
    """Return the seconds until all is accepted within the limit for a second; None if never.

    Args:
        samples: what was asked from ``begin_s`` on.
        begin_s: when the overload ended.
        seconds: for how long after it was asked.
    """
    good = 0
    for window in range(int(seconds / _WINDOW_S)):
        begin = begin_s + window * _WINDOW_S
        inside = [sample for sample in samples if begin <= sample.due_s < begin + _WINDOW_S]
        fine = all(sample.accepted for sample in inside) and _p95(inside) < P95_LIMIT_MS
        good = good + 1 if fine else 0
        if good * _WINDOW_S >= 1.0:
            return (window + 1 - good) * _WINDOW_S
    return None


def _p95(samples: Iterable[Sample]) -> float:
    return percentile([sample.latency_ms for sample in samples], 0.95)
