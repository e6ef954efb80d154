"""``python -m benchmarks``: measure, print the tables, write JSON and the plot of latencies.

Results go to ``build/bench/``; a part that was measured earlier stays in the JSON.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from benchmarks import charts, comparison, growth, pod, report, results, targets
from benchmarks.arena import Arena, arena, check_same_answers, running
from benchmarks.cgroup import NoRight

_DOCUMENTS = 10_000


def main() -> None:
    """Measure the parts that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "part",
        nargs="?",
        choices=_MEASURES,
        help="what to measure alone; the comparison and the pod by default, since growth takes "
        "five minutes of its own",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=comparison.ROUNDS,
        help="turns of each contestant with each operation",
    )
    arguments = parser.parse_args()
    begun = time.monotonic()
    with arena() as place:
        for part in [arguments.part] if arguments.part else ["comparison", "pod"]:
            found = _MEASURES[part](place, arguments.rounds)
            print(f"\n{_TABLES[part](found[part])}\n\n{report.targets(found[part])}", flush=True)
    print(f"\n{time.monotonic() - begun:.0f} s; {results.FOLDER}")


def _compare(place: Arena, rounds: int) -> dict[str, Any]:
    for database in ("service", "raw", "lean"):
        place.seed(database, _DOCUMENTS)
    contestants = place.contestants()
    with running(contestants):
        check_same_answers(contestants)
        closed = comparison.compare(contestants, rounds)
        curves = comparison.draw_curves(contestants)
    seen = {"closed": closed, "curves": curves}
    found = results.record("comparison", seen, targets.of_comparison(closed))
    charts.save_latencies(found["comparison"]["curves"], results.FOLDER / "latency.png")
    return found


def _pod(place: Arena, _: int) -> dict[str, Any]:
    place.seed("pod", _DOCUMENTS)
    try:
        seen = pod.measure(place, "pod")
    except NoRight as error:
        return results.record("pod", {"skipped": str(error)}, [])
    return results.record("pod", vars(seen), targets.of_pod(seen))


def _grow(place: Arena, _: int) -> dict[str, Any]:
    sizes = []
    for size in growth.measure(place):
        print(f"{size.documents:,} documents measured", flush=True)
        sizes.append(size)
    return results.record("growth", {"sizes": sizes}, targets.of_growth(sizes))


_MEASURES: dict[str, Callable[[Arena, int], dict[str, Any]]] = {
    "comparison": _compare,
    "pod": _pod,
    "growth": _grow,
}
_TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "comparison": report.comparison,
    "pod": report.pod,
    "growth": report.growth,
}


if __name__ == "__main__":
    main()
