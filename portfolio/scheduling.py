"""Cooperation between the greenlets of a worker."""

from __future__ import annotations

import time

_YIELD_S = 1e-6


def yield_to_hub() -> None:
    """Let all other greenlets run that are ready, those whose sockets became ready included.

    ``sleep(0)`` would not do: gevent resumes greenlets that yield that way before it polls sockets.
    """
    time.sleep(_YIELD_S)
