"""Admission control: how much a worker has under way, and when it refuses more."""

from __future__ import annotations

import logging
import threading
import time

log = logging.getLogger(__name__)

# The scheduler's lag is looked at this often. A lag above the target means that requests wait for
# the CPU, not for MongoDB: each passes the scheduler about twice, so that a target of 100 ms keeps
# what is admitted under 200 ms. benchmarks/pod.py measures it at three times capacity.
_LOOK_S = 0.05
_TARGET_LAG_S = 0.1
# A pod that has used up its share of the CPU stands still for up to 80 ms, and a neighbour can hold
# the CPU as long: only a lag that stays is overload. Once it is known, less patience is needed.
_PATIENCE = 5
_PATIENCE_OVERLOADED = 2
_LEAST = 8
_CUT = 0.7
_RISE = 1.12


class Place:
    """The place of one request, until it is left."""

    __slots__ = ("_admission",)

    def __init__(self, admission: Admission) -> None:
        self._admission: Admission | None = admission

    def leave(self) -> None:
        """Give the place back; leaving it again does nothing."""
        if self._admission is not None:
            self._admission.under_way -= 1
            self._admission = None


class Admission:
    """Bounds what one worker has under way.

    Up to ``most`` requests run at once. When the CPU can't keep up, fewer do, until waiting is
    short again: then the bound rises back within two seconds.

    Args:
        most: requests under way, at most.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self.under_way = 0
        self.refused = 0
        self._lagging = 0
        self._refused_before = 0
        self._pacer: threading.Thread | None = None
        self._stopped = threading.Event()

    def enter(self) -> Place | None:
        """Return a place for a request, or None where there is none."""
        if self.under_way >= self.limit:
            self.refused += 1
            return None
        self.under_way += 1
        return Place(self)

    def start(self) -> None:
        """Begin to watch how long the scheduler lags."""
        if self._pacer is None:
            self._pacer = threading.Thread(target=self._pace, name="admission-pacer", daemon=True)
            self._pacer.start()

    def stop(self) -> None:
        """End the watch."""
        self._stopped.set()

    def adapt(self, lag_s: float) -> None:
        """Move the bound: down with a lag that stays above the target, up slowly without one."""
        if lag_s <= _TARGET_LAG_S:
            self._lagging = 0
            if self.limit < self.most:
                self.limit = min(float(self.most), self.limit * _RISE + 0.1)
                if self.limit == self.most:
                    refused = self.refused - self._refused_before
                    log.warning("no longer overloaded", extra={"refused": refused})
            return
        self._lagging += 1
        overloaded = self.limit < self.most
        if self._lagging < (_PATIENCE_OVERLOADED if overloaded else _PATIENCE):
            return
        self._lagging = 0
        if not overloaded:
            self._refused_before = self.refused
            log.warning("overloaded", extra={"lag_ms": round(lag_s * 1000)})
        self.limit = max(float(_LEAST), min(self.limit, float(self.under_way)) * _CUT)

    def _pace(self) -> None:
        while not self._stopped.is_set():
            begun = time.monotonic()
            time.sleep(_LOOK_S)
            self.adapt(time.monotonic() - begun - _LOOK_S)
