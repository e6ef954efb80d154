"""The deadline of database calls, which a request sets for all that it does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# By the monotonic clock; 0 for calls outside requests: commands and background tasks.
deadline: ContextVar[float] = ContextVar("deadline", default=0.0)
_DEFAULT_BUDGET_S = 5.0


@contextmanager
def budget(seconds: float) -> Iterator[None]:
    """Give the calls inside, with their retries and waits, a deadline in ``seconds``."""
    token = deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        deadline.reset(token)


def time_left() -> float:
    """Return the seconds until the deadline, 0 once it has passed."""
    end = deadline.get()
    return max(end - time.monotonic(), 0.0) if end else _DEFAULT_BUDGET_S
