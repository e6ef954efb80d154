"""The circuit breaker."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import pybreaker

log = logging.getLogger(__name__)

T = TypeVar("T")


class Breaker(pybreaker.CircuitBreakerListener):
    """A circuit breaker that bounds trial calls, counts outcomes and logs its transitions.

    ``pybreaker`` holds its lock while it runs a function, so that calls would run one at a time.
    Here it runs none: it keeps the state, and is told the outcome of each call.

    Args:
        name: what it guards; the ``circuit_name`` of metrics.
        failures: consecutive failures that open it.
        reset_s: seconds from its opening to the first trial call.
        successes: trial calls that must succeed to close it, and the most that run at once.
        counts: tells whether an exception is a failure of what is guarded.
        level: the level at which its opening is logged.

    Attributes:
        state: ``closed``, ``half-open`` or ``open``.
        outcomes: the calls by outcome: success, failure, refused.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int,
        reset_s: float,
        successes: int,
        counts: Callable[[BaseException], bool],
        level: int = logging.WARNING,
    ) -> None:
        self.name = name
        self.state = pybreaker.STATE_CLOSED
        self.outcomes: Counter[str] = Counter()
        self._successes = successes
        self._trials = 0
        self._reset_at = 0.0
        self._counts = counts
        self._level = level
        self._breaker = pybreaker.CircuitBreaker(
            failures, reset_s, success_threshold=successes, listeners=[self]
        )

    @property
    def failure_count(self) -> int:
        """Consecutive failures so far."""
        return self._breaker.fail_counter

    @property
    def retry_after(self) -> int:
        """Whole seconds until trial calls are allowed, at least 1."""
        return max(1, math.ceil(self._reset_at - time.monotonic()))

    def snapshot(self) -> dict[str, Any]:
        """Its state, as health and telemetry report it."""
        return {
            "state": self.state,
            "failure_count": self.failure_count,
            "failure_threshold": self._breaker.fail_max,
            "reset_seconds": self._breaker.reset_timeout,
            "successes": self.outcomes["success"],
            "failures": self.outcomes["failure"],
            "refused": self.outcomes["refused"],
        }

    def half_open(self) -> None:
        """Allow trial calls now, if it is open: what it guards answers again."""
        if self.state == pybreaker.STATE_OPEN:
            self._breaker.half_open()

    def reset(self) -> None:
        """Close it: the manual reset of the runbook."""
        if self.state != pybreaker.STATE_CLOSED:
            self._breaker.close()

    def call(self, operation: Callable[[], T]) -> T:
        """Run ``operation`` and return what it returns.

        Raises:
            pybreaker.CircuitBreakerError: it is open, or enough trial calls are in flight.
            BaseException: whatever ``operation`` raises.
        """
        is_trial = self.state != pybreaker.STATE_CLOSED
        if is_trial:
            self._admit_trial()
        try:
            result = operation()
        except BaseException as error:
            self._report(failed=self._counts(error))
            raise
        finally:
            self._trials -= is_trial
        if is_trial or self._breaker.fail_counter:
            self._report(failed=False)
        else:
            self.outcomes["success"] += 1
        return result

    def _admit_trial(self) -> None:
        if time.monotonic() >= self._reset_at:
            self.half_open()
        if self.state == pybreaker.STATE_OPEN or self._trials >= self._successes:
            self.outcomes["refused"] += 1
            raise pybreaker.CircuitBreakerError("Open, or enough trial calls are in flight")
        self._trials += 1

    def _report(self, *, failed: bool) -> None:
        self.outcomes["failure" if failed else "success"] += 1
        # It raises this, too, where another call has opened it meanwhile.
        with suppress(pybreaker.CircuitBreakerError), self._breaker.calling():
            if failed:
                raise pybreaker.CircuitBreakerError

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        """Record a transition; called by ``pybreaker``."""
        self.state = new_state.name
        if self.state == pybreaker.STATE_OPEN:
            self._reset_at = time.monotonic() + self._breaker.reset_timeout
        log.log(
            min(self._level, logging.INFO) if self.state == pybreaker.STATE_CLOSED else self._level,
            "circuit breaker changed state",
            extra={"circuit_name": self.name, "from": old_state.name, "to": self.state},
        )
