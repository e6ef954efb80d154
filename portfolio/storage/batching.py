"""One query to MongoDB for several concurrent requests."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from portfolio.errors import DeadlineExceeded
from portfolio.scheduling import time_left

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class BatchLoader(Generic[Key, Value]):
    """Loads the values of keys, with one query for concurrent callers.

    The first caller, the leader, waits one tick so that others can join its batch, then loads for
    all of them. Nobody can join once the query is sent, so that no value is older than the request
    for it.

    If the query fails, only the leader fails: it may have had less time left, or a key that can't
    be read. Each of the others then loads its own key.

    Args:
        load: returns the values of distinct keys, without those that have none.
        max_callers: the most callers in one batch.
        pause: yields to other callers, as ``time.sleep`` does.
    """

    def __init__(
        self,
        load: Callable[[Sequence[Key]], dict[Key, Value]],
        *,
        max_callers: int = sys.maxsize,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._load = load
        self._max_callers = max_callers
        self._pause = pause
        self._lock = threading.Lock()
        self._open: dict[Hashable, _Batch[Key, Value]] = {}

    @property
    def waiting(self) -> int:
        """How many callers have joined a batch whose query is not sent yet."""
        return sum(map(len, self._open.values()))

    def get(self, key: Key, group: Hashable = None) -> Value | None:
        """Return the value of ``key``, or None, loaded together with keys of the same ``group``.

        Raises:
            DeadlineExceeded: the deadline passed before the batch was done.
            Exception: whatever ``load`` raises for this caller.
        """
        with self._lock:
            batch = self._open.get(group)
            is_leader = batch is None or len(batch) >= self._max_callers
            if batch is None or is_leader:
                batch = self._open[group] = _Batch()
            elif batch.done is None:
                batch.done = threading.Event()
            batch.append(key)
        if not is_leader:
            return self._follow(batch, key)
        try:
            try:
                self._pause(0)
            finally:
                with self._lock:
                    # The next caller has replaced a full batch.
                    if self._open.get(group) is batch:
                        del self._open[group]
            batch.values = self._load(list(dict.fromkeys(batch)))
            return batch.values.get(key)
        finally:
            if batch.done is not None:
                batch.done.set()

    def _follow(self, batch: _Batch[Key, Value], key: Key) -> Value | None:
        if batch.done is not None and not batch.done.wait(time_left()):
            raise DeadlineExceeded
        values = batch.values if batch.values is not None else self._load([key])
        return values.get(key)


class _Batch(list[Key], Generic[Key, Value]):
    """The keys of the callers that share a query.

    Attributes:
        values: None until the query has succeeded.
        done: set when the query has succeeded or failed; made by the first caller that waits.
    """

    values: dict[Key, Value] | None = None
    done: threading.Event | None = None
