"""The service beside the baselines: closed loop, open loop, and what a request costs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.load import Load, Phase, closed_loop, open_loop, summarise
from benchmarks.operations import MIX, OPERATIONS, Operation
from benchmarks.servers import Server

CONNECTIONS = 16
ROUNDS = 7
_TURN_S = 1.0
_RATES = (100, 250, 500, 750, 1000, 1500, 2000, 2500, 3000, 4000)
_RATE_S = 3.0
# Past this a curve only shows how long the load lasted.
_SATURATED_P95_MS = 1000.0


@dataclass(frozen=True)
class Figures:
    """Medians over the rounds; latencies in milliseconds."""

    rate: float
    p50: float
    p95: float
    p99: float
    per_cpu_second: float
    errors: int


@dataclass(frozen=True)
class Point:
    """One point of a latency curve: what was asked a second, and what came of it."""

    asked: float
    load: Load


class Turn(NamedTuple):
    """One turn of a server in a closed loop, and how many it answered a CPU second."""

    load: Load
    per_cpu_second: float


Closed = dict[str, dict[str, Figures]]
Curves = dict[str, list[Point]]


def take_turn(server: Server, operation: Operation, connections: int) -> Turn:
    """Keep ``connections`` to ``server`` busy with ``operation`` for a second."""
    before = server.cpu_seconds()
    load = closed_loop(server.port, operation, connections, _TURN_S)
    spent = server.cpu_seconds() - before
    return Turn(load, (load.requests - load.errors) / spent)


def compare(contestants: Sequence[Server], rounds: int = ROUNDS) -> Closed:
    """Load each contestant with each operation, by turns, and return figures by operation.

    Many turns of a second, and medians over them: what else the machine does meanwhile then hits
    all alike.
    """
    seen: dict[str, dict[str, list[Turn]]] = {}
    for _ in range(rounds):
        for operation in OPERATIONS:
            for server in contestants:
                turns = seen.setdefault(operation.key, {}).setdefault(server.title, [])
                turns.append(take_turn(server, operation, CONNECTIONS))
    return {
        key: {title: _medians(turns) for title, turns in by_title.items()}
        for key, by_title in seen.items()
    }


def draw_curves(contestants: Sequence[Server]) -> Curves:
    """Raise the load of the mix step by step, by turns, until each contestant is saturated."""
    curves: Curves = {server.title: [] for server in contestants}
    for rate in _RATES:
        for server in contestants:
            points = curves[server.title]
            if points and points[-1].load.p95 > _SATURATED_P95_MS:
                continue
            load = summarise(open_loop(server.port, MIX, Phase(rate, _RATE_S)))
            points.append(Point(rate, load))
    return curves


def _medians(turns: Sequence[Turn]) -> Figures:
    loads = [turn.load for turn in turns]
    return Figures(
        rate=statistics.median(load.rate for load in loads),
        p50=statistics.median(load.p50 for load in loads),
        p95=statistics.median(load.p95 for load in loads),
        p99=statistics.median(load.p99 for load in loads),
        per_cpu_second=statistics.median(turn.per_cpu_second for turn in turns),
        errors=sum(load.errors for load in loads),
    )
