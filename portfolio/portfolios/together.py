"""Asking MongoDB once for what several requests want to know at the same moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Together(Generic[Key, Value]):
    """Looks keys up, those of one moment in one call.

    The first to ask yields once, so that every request that is ready to run can join, and then asks
    for all. A call to MongoDB costs a worker more than all the rest of a read, so that a read costs
    least when the worker has most to do; alone, a request waits for nobody. Whoever joins does so
    before the question is sent: what is read is as fresh as if each had asked alone.

    Args:
        look_up: returns the values of distinct keys; a key without one is left out.
        apart: whether each key is a question of its own, so that only those who ask the very same
            go together.
        pause: yields to whoever is ready, as ``time.sleep`` does.
    """

    def __init__(
        self,
        look_up: Callable[[Sequence[Key]], dict[Key, Value]],
        *,
        apart: bool = False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._look_up = look_up
        self._apart = apart
        self._pause = pause
        self._lock = threading.Lock()
        self._open: dict[Key | None, _Party[Key, Value]] = {}

    @property
    def waiting(self) -> int:
        """How many have asked what was not sent yet."""
        return sum(party.size for party in self._open.values())

    def get(self, key: Key) -> Value | None:
        """Return the value of ``key``, or None.

        Raises:
            whatever ``look_up`` raises, to all who asked.
        """
        question = key if self._apart else None
        with self._lock:
            party = self._open.get(question)
            leads = party is None
            if party is None:
                party = self._open[question] = _Party()
            elif party.over is None:
                party.over = threading.Event()
            party.keys[key] = None
            party.size += 1
        if leads:
            self._lead(party, question)
        elif party.over is not None:
            party.over.wait()
        if party.error is not None:
            raise party.error
        return party.values.get(key)

    def _lead(self, party: _Party[Key, Value], question: Key | None) -> None:
        self._pause(0)
        with self._lock:
            del self._open[question]
        try:
            party.values = self._look_up(list(party.keys))
        except BaseException as error:
            party.error = error
        finally:
            if party.over is not None:
                party.over.set()


class _Party(Generic[Key, Value]):
    """Who asks together, and what they hear."""

    __slots__ = ("error", "keys", "over", "size", "values")

    def __init__(self) -> None:
        self.keys: dict[Key, None] = {}
        self.values: dict[Key, Value] = {}
        self.error: BaseException | None = None
        self.over: threading.Event | None = None
        self.size = 0
