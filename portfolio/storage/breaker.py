"""The circuit breaker."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import pybreaker

log = logging.getLogger(__name__)

T = TypeVar("T")


class Breaker:
    """A circuit breaker that bounds trial calls, and counts and logs its transitions.

    ``pybreaker`` holds its lock while a function given to its ``call`` runs, so that calls would
    run one at a time. So it is told of outcomes afterwards, and of trial calls by ``calling``,
    which holds the lock only on entry and exit.

    Args:
        name: what it guards; the ``circuit_name`` of metrics.
        failures: consecutive failures that open it.
        reset_s: seconds from its opening to the first trial call.
        successes: trial calls that must succeed to close it, and the most that run at once.
        counts: tells whether an exception is a failure of what is guarded.
        level: the level at which its opening is logged.
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
        self.outcomes: Counter[str] = Counter()
        self.transitions = 0
        self._successes = successes
        self._trials = 0
        self._opened = 0.0
        self._counts = counts
        self._level = level
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=failures,
            reset_timeout=reset_s,
            success_threshold=successes,
            exclude=[lambda error: not counts(error)],
            listeners=[_Transitions(self)],
            name=name,
            throw_new_error_on_trip=False,
        )

    @property
    def state(self) -> str:
        """``closed``, ``half-open`` or ``open``."""
        return str(self._breaker.current_state)

    @property
    def failure_count(self) -> int:
        """Consecutive failures so far."""
        return self._breaker.fail_counter

    @property
    def retry_after(self) -> int:
        """Whole seconds until trial calls are allowed, at least 1."""
        left = self._opened + self._breaker.reset_timeout - time.monotonic()
        return max(1, int(left + 0.999))

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
            "transitions": self.transitions,
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
        if self._breaker.current_state != pybreaker.STATE_CLOSED:
            return self._try(operation)
        try:
            result = operation()
        except BaseException as error:
            self._report(error)
            raise
        if self._breaker.fail_counter:
            self._report(None)
        self.outcomes["success"] += 1
        return result

    def _try(self, operation: Callable[[], T]) -> T:
        """Run a trial call, if it is allowed."""
        if self._trials >= self._successes:
            self.outcomes["refused"] += 1
            raise pybreaker.CircuitBreakerError("Enough trial calls are in flight")
        self._trials += 1
        try:
            with self._breaker.calling():
                result = operation()
        except pybreaker.CircuitBreakerError:
            self.outcomes["refused"] += 1
            raise
        except BaseException as error:
            self._count(error)
            raise
        finally:
            self._trials -= 1
        self.outcomes["success"] += 1
        return result

    def _report(self, error: BaseException | None) -> None:
        """Tell ``pybreaker`` how a call ended that began while the breaker was closed."""

        def outcome() -> None:
            if error is not None:
                raise error

        if error is not None:
            self._count(error)
        # Meanwhile another call may have opened it.
        with suppress(pybreaker.CircuitBreakerError, *([type(error)] if error else [])):
            self._breaker.call(outcome)

    def _count(self, error: BaseException) -> None:
        self.outcomes["failure" if self._counts(error) else "success"] += 1

    def changed(self, old: str, new: str) -> None:
        """Record a transition; called by ``pybreaker``."""
        self.transitions += 1
        if new == pybreaker.STATE_OPEN:
            self._opened = time.monotonic()
        log.log(
            min(self._level, logging.INFO) if new == pybreaker.STATE_CLOSED else self._level,
            "circuit breaker changed state",
            extra={"circuit_name": self.name, "from": old, "to": new},
        )


class _Transitions(pybreaker.CircuitBreakerListener):
    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self._breaker.changed(old_state.name if old_state else "closed", new_state.name)
