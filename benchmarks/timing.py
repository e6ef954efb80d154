"""What a call costs, to a tenth of a microsecond, on a machine that has other work too."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping

_ROUNDS = 60
_CALLS = 40


def cpu_microseconds(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the CPU microseconds of each call, in the order given.

    The best of many short rounds, by turns: noise only ever adds. Waiting costs nothing here, so
    that what MongoDB does for a call is not in its figure.
    """
    best = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        for _ in range(_CALLS):
            call()
    gc.collect()
    gc.freeze()
    for _ in range(_ROUNDS):
        for title, call in calls.items():
            begun = time.thread_time()
            for _ in range(_CALLS):
                call()
            spent = (time.thread_time() - begun) / _CALLS * 1e6
            best[title] = min(best[title], spent)
    gc.unfreeze()
    return best
