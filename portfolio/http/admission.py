"""Admission control: how much a worker has under way, and when it refuses more."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

# Measured in a pod of 0.2 CPU at three times its capacity, by benchmarks/pod.py: with these p95 of
# what is admitted was 186 to 231 ms in three runs, the longest of it from the first second, in
# which overload is told from a stall; after that it was about 100 ms.
#
# Waits are looked at this often: the period in which the kernel hands a pod its share of the CPU.
_LOOK_S = 0.1
# Outside overload a wait is asked for no more often: it takes a system call.
_SAMPLE_S = 0.005
# A pod that has used up its share stands still for up to 90 ms, and a neighbour can hold the CPU
# as long: only longer waits, in so many looks one after the other, are overload.
_LONG_S = 0.12
_LOOKS = 3
# In overload waits are kept below this; a look that saw a longer one cuts the bound, others raise
# it: from the least to 100 in two seconds.
_TARGET_S = 0.06
_CUT = 0.7
_RISE = 1.2
_LEAST = 2.0


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

    Up to ``most`` requests run at once. A request that waits for long before the worker has so
    much as read it waits for the CPU, not for MongoDB: where that stays so, fewer run at once, and
    those that have waited already are refused, until waiting is short again.

    Args:
        most: requests under way, at most.
        clock: tells the time in seconds.

    Attributes:
        limit: requests under way, at most, as of now.
        under_way: those that have a place.
        refused: those that got none, ever.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.limit = float(most)
        self.under_way = 0
        self.refused = 0
        self._clock = clock
        self._looked = clock()
        self._sample_at = 0.0
        self._longest_wait_s = 0.0
        self._admitted = 0
        self._long_looks = 0
        self._refused_before = 0

    @property
    def overloaded(self) -> bool:
        """Whether the CPU can't keep up."""
        return self.limit < self.most

    def enter(self, waited_s: Callable[[], float]) -> Place | None:
        """Return a place for a request, or None where there is none.

        Args:
            waited_s: tells the seconds since the request came in; asked where it matters, since
                the answer takes a system call.
        """
        now = self._clock()
        wait_s = 0.0
        if self.overloaded or now >= self._sample_at:
            self._sample_at = now + _SAMPLE_S
            wait_s = waited_s()
            self._longest_wait_s = max(self._longest_wait_s, wait_s)
        if now - self._looked >= _LOOK_S:
            self._look(now - self._looked)
        if self.under_way >= self.limit or (self.overloaded and wait_s > _TARGET_S):
            self.refused += 1
            return None
        self.under_way += 1
        self._admitted += 1
        return Place(self)

    def _look(self, seconds: float) -> None:
        """Move the bound by what was seen in the ``seconds`` since the last look."""
        if self.overloaded:
            if self._longest_wait_s > _TARGET_S:
                self.limit = max(_LEAST, self.limit * _CUT)
            else:
                self._raise(seconds / _LOOK_S)
        elif self._longest_wait_s > _LONG_S:
            self._long_looks += 1
            if self._long_looks >= _LOOKS:
                self._begin_to_refuse(self._admitted / seconds)
        else:
            self._long_looks = 0
        self._looked += seconds
        self._longest_wait_s = 0.0
        self._admitted = 0

    def _begin_to_refuse(self, rate: float) -> None:
        # Little's law: so many are under way where each takes the target's time.
        self.limit = min(self.limit, max(_LEAST, rate * _TARGET_S))
        self._long_looks = 0
        self._refused_before = self.refused
        log.warning("overloaded", extra={"wait_ms": round(self._longest_wait_s * 1000)})

    def _raise(self, looks: float) -> None:
        # More than this many looks raise the least to any bound.
        self.limit = min(float(self.most), self.limit * _RISE ** min(looks, 100.0))
        if not self.overloaded:
            refused = self.refused - self._refused_before
            log.warning("no longer overloaded", extra={"refused": refused})
