"""Greenlets of one worker, and who of them runs next."""

from __future__ import annotations

import time

_A_MOMENT_S = 1e-6


def yield_to_hub() -> None:
    """Let all others run that can, those whose sockets have become ready among them.

    For a moment instead of 0, since gevent resumes those who yield before it looks at sockets
    again: up to 40 requests were served in between.
    """
    time.sleep(_A_MOMENT_S)
