"""``python -m benchmarks``: measure, print the tables, write JSON, plots and a page.

Results go to ``build/bench/``; a part that was measured earlier stays in the page.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks import comparison, growth, page, pod, report, results, targets
from benchmarks.arena import Arena, arena, check_same_answers, running
from benchmarks.cgroup import NoRight

_DOCUMENTS = 10_000
_PARTS = ("comparison", "pod", "growth")


def main() -> None:
    """Measure the parts that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        choices=_PARTS,
        help="what to measure: comparison and pod by default; growth takes ten minutes of its own",
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
        for part in arguments.parts or _PARTS[:2]:
            if part == "comparison":
                _compare(place, arguments.rounds)
            elif part == "pod":
                _pod(place)
            else:
                _grow(place)
    print(f"\n{time.monotonic() - begun:.0f} s; {results.FOLDER / 'index.html'}")


def _compare(place: Arena, rounds: int) -> None:
    for database in ("service", "raw", "lean"):
        place.seed(database, _DOCUMENTS)
    contestants = place.contestants()
    with running(contestants):
        check_same_answers(contestants)
        closed = comparison.compare(contestants, rounds)
        curves = comparison.draw_curves(contestants)
    seen = {"closed": closed, "curves": curves}
    _show("comparison", results.record("comparison", seen, targets.of_comparison(closed)))


def _pod(place: Arena) -> None:
    place.seed("pod", _DOCUMENTS)
    try:
        seen = pod.measure(place, "pod")
    except NoRight as error:
        _show("pod", results.record("pod", {"skipped": str(error)}, []))
        return
    _show("pod", results.record("pod", vars(seen), targets.of_pod(seen)))


def _grow(place: Arena) -> None:
    sizes = []
    for size in growth.measure(place):
        print(f"{size.documents:,} documents measured", flush=True)
        sizes.append(size)
    _show("growth", results.record("growth", {"sizes": sizes}, targets.of_growth(sizes)))


def _show(part: str, all_results: dict[str, Any]) -> None:
    tables = {"comparison": report.comparison, "pod": report.pod, "growth": report.growth}
    found = all_results[part]
    print(f"\n{tables[part](found)}\n\n{report.targets(found)}", flush=True)
    page.write(all_results)


if __name__ == "__main__":
    main()
