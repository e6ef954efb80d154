"""Scheduling in a worker process, whose threads gevent turns into greenlets, and its deadlines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_YIELD_S = 1e-6
_DEFAULT_BUDGET_S = 5.0

# The deadline of the request, by the monotonic clock; 0 in commands and background tasks.
deadline: ContextVar[float] = ContextVar("deadline", default=0.0)


@contextmanager
def budget(seconds: float) -> Iterator[None]:
    """Give the database calls inside, with their retries and waits, a deadline in ``seconds``."""
    token = deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        deadline.reset(token)


def time_left() -> float:
    """Return the seconds until the deadline, 0 once it has passed."""
    end = deadline.get()
    return max(end - time.monotonic(), 0.0) if end else _DEFAULT_BUDGET_S


def yield_to_hub() -> None:
    """Let all other greenlets run that are ready, those whose sockets became ready included.

    ``sleep(0)`` would not do: gevent resumes greenlets that yield that way before it polls sockets.
    """
    time.sleep(_YIELD_S)


def run_later(seconds: float, task: Callable[[], None]) -> None:
    """Run ``task`` in a thread of its own after ``seconds``; the end of the process cancels it."""
    timer = threading.Timer(seconds, task)
    timer.daemon = True
    timer.start()
