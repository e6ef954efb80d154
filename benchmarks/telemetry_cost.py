"""What telemetry costs: GET one with and without it, by turns in one run.

``python -m benchmarks.telemetry_cost [ROUNDS]``. The service runs with everything on (production
sampling, database tracing), the same with every request sampled, and with
``OTEL_SDK_DISABLED=true``. Requests a CPU second in a closed loop are the steadier figure: they
don't depend on what else runs.

Then it runs with everything on and an export a second beside collectors that are absent or broken:
what these cost a request is seen in an open loop, below capacity.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace
from statistics import median

from benchmarks import servers
from benchmarks.arena import Arena, arena, running
from benchmarks.collector import FAULTS, collector
from benchmarks.load import Load, Phase, closed_loop, open_loop, summarise
from benchmarks.operations import GET_ONE, SEEDED
from benchmarks.servers import Server
from portfolio.local.mongod import free_port

_ROUNDS = 15
_ROUND_S = 2.0
# Few enough that nothing is refused for overload where the machine is busy with other things.
_CONNECTIONS = 4
_RATE = 100.0
_DATABASE = "telemetry_cost"
_EVERY_SECOND = {"OTEL_METRICS_EXPORT_INTERVAL_SECONDS": "1"}


def main(rounds: int) -> None:
    """Measure and print one line a variant."""
    with ExitStack() as stack:
        place = stack.enter_context(arena())
        place.seed(_DATABASE, SEEDED)
        absent = f"http://127.0.0.1:{free_port()}"
        broken = {fault: stack.enter_context(collector(fault)) for fault in FAULTS}
        variants = [
            _variant(place, "disabled", OTEL_SDK_DISABLED="true"),
            _variant(place, "everything on"),
            _variant(place, "every request sampled", METRICS_SAMPLE_RATE="1"),
        ]
        collectors = {"is well": place.collector, "is absent": absent, **broken}
        beside = [
            _variant(replace(place, collector=url), f"a collector that {how}", **_EVERY_SECOND)
            for how, url in collectors.items()
        ]
        with running(variants):
            _report_cost(variants, rounds)
        with running(beside):
            _report_latency(beside, rounds)


def _variant(place: Arena, title: str, **environment: str) -> Server:
    server = servers.service(
        place.mongod.uri, _DATABASE, place.collector, place.folder, **environment
    )
    server.title = title
    return server


def _report_cost(variants: list[Server], rounds: int) -> None:
    rates: dict[str, list[float]] = {}
    efficiencies: dict[str, list[float]] = {}
    for _ in range(rounds):
        for server in variants:
            before = server.cpu_seconds()
            load = closed_loop(server.port, GET_ONE, _CONNECTIONS, _ROUND_S)
            spent = server.cpu_seconds() - before
            rates.setdefault(server.title, []).append(load.rate)
            efficiencies.setdefault(server.title, []).append((load.requests - load.errors) / spent)
    base_rate, base = (median(figures[variants[0].title]) for figures in (rates, efficiencies))
    print(f"{'GET one':26} {'req/s':>8} {'':>6} {'req/CPU s':>10}")
    for server in variants:
        rate, efficiency = median(rates[server.title]), median(efficiencies[server.title])
        print(
            f"{server.title:26} {rate:8.0f} {rate / base_rate:6.1%} "
            f"{efficiency:10.0f} {efficiency / base:6.1%}"
        )


def _report_latency(variants: list[Server], rounds: int) -> None:
    loads: dict[str, list[Load]] = {}
    for _ in range(rounds):
        for server in variants:
            load = summarise(open_loop(server.port, {GET_ONE: 1}, Phase(_RATE, _ROUND_S)))
            loads.setdefault(server.title, []).append(load)
    print(
        f"\n{f'GET one, {_RATE:.0f}/s':24} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'errors':>7}"
    )
    for server in variants:
        seen = loads[server.title]
        print(
            f"{server.title:26} {median(load.p50 for load in seen):8.2f} "
            f"{median(load.p95 for load in seen):8.2f} {median(load.p99 for load in seen):8.2f} "
            f"{sum(load.errors for load in seen):7}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else _ROUNDS)
