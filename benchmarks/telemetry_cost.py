"""What telemetry costs: GET one with and without it, by turns in one run.

``python -m benchmarks.telemetry_cost [ROUNDS]``. The service runs with everything on (production
sampling, database tracing, an export a second), the same with every request sampled, and with
``OTEL_SDK_DISABLED=true``; and with everything on beside collectors that are absent and that never
answer. Requests a CPU second are the steadier figure: they don't depend on what else runs.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median

from benchmarks import servers
from benchmarks.arena import Arena, arena, running
from benchmarks.load import closed_loop
from benchmarks.operations import GET_ONE, SEEDED
from benchmarks.servers import Server
from portfolio.local.mongod import free_port

_ROUNDS = 15
_ROUND_S = 2.0
# Few enough that nothing is refused for overload where the machine is busy with other things.
_CONNECTIONS = 4
_DATABASE = "telemetry_cost"
_EVERY_SECOND = {"OTEL_METRICS_EXPORT_INTERVAL_SECONDS": "1"}


def main(rounds: int) -> None:
    """Measure and print one line a variant."""
    with arena() as place, _silent_listener() as silent:
        place.seed(_DATABASE, SEEDED)
        variants = [
            _variant(place, "disabled", OTEL_SDK_DISABLED="true"),
            _variant(place, "everything on"),
            _variant(place, "every request sampled", METRICS_SAMPLE_RATE="1"),
            _variant(replace(place, collector=f"http://127.0.0.1:{free_port()}"), "no collector"),
            _variant(replace(place, collector=silent), "a collector that hangs"),
        ]
        with running(variants):
            _report(variants, rounds)


def _variant(place: Arena, title: str, **environment: str) -> Server:
    server = servers.service(
        place.mongod.uri, _DATABASE, place.collector, place.folder, **_EVERY_SECOND, **environment
    )
    server.title = title
    return server


def _report(variants: list[Server], rounds: int) -> None:
    rates: dict[str, list[float]] = {}
    efficiencies: dict[str, list[float]] = {}
    tails: dict[str, list[float]] = {}
    for _ in range(rounds):
        for server in variants:
            before = server.cpu_seconds()
            load = closed_loop(server.port, GET_ONE, _CONNECTIONS, _ROUND_S)
            spent = server.cpu_seconds() - before
            rates.setdefault(server.title, []).append(load.rate)
            efficiencies.setdefault(server.title, []).append((load.requests - load.errors) / spent)
            tails.setdefault(server.title, []).append(load.p99)
    base_rate, base = (median(figures[variants[0].title]) for figures in (rates, efficiencies))
    print(f"{'GET one':24} {'req/s':>8} {'':>6} {'req/CPU s':>10} {'':>6} {'p99 ms':>7}")
    for server in variants:
        rate, efficiency = median(rates[server.title]), median(efficiencies[server.title])
        print(
            f"{server.title:24} {rate:8.0f} {rate / base_rate:6.1%} "
            f"{efficiency:10.0f} {efficiency / base:6.1%} {median(tails[server.title]):7.1f}"
        )


@contextmanager
def _silent_listener() -> Iterator[str]:
    """Yield the URL of one who takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else _ROUNDS)
