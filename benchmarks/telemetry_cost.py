"""What telemetry costs: GET one with and without it, by turns in one run.

``python -m benchmarks.telemetry_cost [ROUNDS]``. The service runs with ``OTEL_SDK_DISABLED=true``;
as production is configured (metrics, no tracing); with everything on (a tenth of the requests
sampled, each with a span of its database command); and with every request sampled. Each round asks
all of them, so that a ratio compares what was measured within seconds. All are started anew several
times: two processes of the same build differ by up to 3%, for as long as they run. Requests a CPU
second are the steadier figure: they don't depend on what else runs.

Then it runs with everything on and an export a second beside collectors that are absent or broken:
what these cost a request is seen in an open loop, below capacity.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from operator import attrgetter
from statistics import median

from benchmarks import servers
from benchmarks.arena import Arena, arena, running
from benchmarks.collector import FAULTS, collector
from benchmarks.comparison import Turn, take_turn
from benchmarks.load import Phase, Sample, open_loop, summarise
from benchmarks.operations import GET_ONE, SEEDED
from benchmarks.report import table
from benchmarks.servers import EVERY_FEATURE, Server
from portfolio.devserver.processes import free_port

_STARTS = 5
_ROUNDS = 12
_ROUND_S = 1.0
# Few enough that nothing is refused for overload where the machine is busy with other things.
_CONNECTIONS = 4
_RATE = 100.0
_DATABASE = "telemetry_cost"
_EXPORTING = {**EVERY_FEATURE, "OTEL_METRICS_EXPORT_INTERVAL_SECONDS": "1"}


def main(rounds: int) -> None:
    """Measure and print one line a variant."""
    with ExitStack() as stack:
        place = stack.enter_context(arena())
        place.seed(_DATABASE, SEEDED)
        variants = [
            _variant(place, "disabled", OTEL_SDK_DISABLED="true"),
            _variant(place, "as in production"),
            _variant(place, "everything on", **EVERY_FEATURE),
            _variant(place, "every request sampled", **EVERY_FEATURE, METRICS_SAMPLE_RATE="1"),
        ]
        print(table(_cost(variants, rounds)))
        absent = f"http://127.0.0.1:{free_port()}"
        broken = {fault: stack.enter_context(collector(fault)) for fault in FAULTS}
        collectors = {"is well": place.collector, "is absent": absent, **broken}
        beside = [
            _variant(replace(place, collector=url), f"a collector that {how}", **_EXPORTING)
            for how, url in collectors.items()
        ]
        print("\n" + table(_latency(beside, rounds)))


def _variant(place: Arena, title: str, **environment: str) -> Server:
    server = servers.service(
        place.mongod.uri, _DATABASE, place.collector, place.folder, place.runtime, **environment
    )
    server.title = title
    return server


def _cost(variants: Sequence[Server], rounds: int) -> list[list[str]]:
    base = variants[0]
    starts: list[list[dict[Server, Turn]]] = []
    for _ in range(_STARTS):
        with running(variants):
            starts.append(
                [
                    {server: take_turn(server, GET_ONE, _CONNECTIONS) for server in order}
                    for order in _orders(variants, rounds)
                ]
            )
    rows = [["GET one", "req/s", "of disabled", "each start", "per CPU second", "each start"]]
    for server in variants:
        rate = median(turns[server].load.rate for start in starts for turns in start)
        row = [server.title, f"{rate:,.0f}"]
        for figure in attrgetter("load.rate"), attrgetter("per_cpu_second"):
            shares = [
                median(figure(turns[server]) / figure(turns[base]) for turns in start)
                for start in starts
            ]
            row += [f"{median(shares):.1%}", f"{min(shares):.1%} to {max(shares):.1%}"]
        rows.append(row)
    return rows


def _latency(variants: Sequence[Server], rounds: int) -> list[list[str]]:
    samples: dict[Server, list[Sample]] = {server: [] for server in variants}
    with running(variants):
        for order in _orders(variants, rounds):
            for server in order:
                samples[server] += open_loop(server.port, {GET_ONE: 1}, Phase(_RATE, _ROUND_S))
    rows = [[f"GET one, {_RATE:.0f}/s", "p50 ms", "p95", "p99", "errors"]]
    for server in variants:
        # Of all rounds together: latencies and errors keep their meaning, a rate does not.
        load = summarise(samples[server])
        figures = [f"{milliseconds:.2f}" for milliseconds in (load.p50, load.p95, load.p99)]
        rows.append([server.title, *figures, str(load.errors)])
    return rows


def _orders(variants: Sequence[Server], rounds: int) -> Iterator[Sequence[Server]]:
    """Yield the variants once a round, forth and back, so that none always goes first."""
    for index in range(rounds):
        yield variants[::-1] if index % 2 else variants


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else _ROUNDS)
