"""What ``tox -e serve`` needs of tox: Ctrl-C ends the service, and that is no failure.

On Ctrl-C the terminal signals tox and the service at once. The service stops in order and exits
with 0; tox by itself would interrupt it once more, and report a failure.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from tox.plugin import impl

_running: list[str] = []


def _handle(number: int, frame: FrameType | None) -> None:
    if "serve" not in _running:
        signal.default_int_handler(number, frame)


@impl
def tox_add_core_config() -> None:
    """Install the handler while tox starts: environments run in other threads."""
    signal.signal(signal.SIGINT, _handle)


@impl
def tox_before_run_commands(tox_env: Any) -> None:
    """Leave Ctrl-C to the commands of the environment."""
    _running.append(tox_env.conf.name)


@impl
def tox_after_run_commands(tox_env: Any) -> None:
    """Take Ctrl-C back."""
    _running.remove(tox_env.conf.name)
