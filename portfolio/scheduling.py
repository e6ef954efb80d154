"""Scheduling in a worker process, whose threads gevent turns into greenlets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_YIELD_S = 1e-6


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
