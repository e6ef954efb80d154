"""What ``tox -e serve`` needs of tox: Ctrl-C ends the service, and tox reports its exit code.

On Ctrl-C the terminal signals tox and the service at once. The service stops in order and exits
with 0; tox by itself would not wait for that, and report a failure.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from tox.plugin import impl

_ENVIRONMENT = "serve"
# The service needs a second or two. Who signalled tox alone has it stop the service after this.
_TIMEOUT_S = 10.0


class _Interrupt:
    """The handler of SIGINT: tox's own, but while the service runs."""

    def __init__(self) -> None:
        self._serving = False
        self._timer: threading.Timer | None = None

    def install(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._handle)

    def begin(self) -> None:
        self._serving = True

    def end(self) -> None:
        self._serving = False
        if self._timer is not None:
            self._timer.cancel()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._serving:
            signal.default_int_handler(number, frame)
        elif self._timer is None:
            self._timer = threading.Timer(_TIMEOUT_S, self._give_up)
            self._timer.daemon = True
            self._timer.start()

    def _give_up(self) -> None:
        if self._serving:
            self._serving = False
            os.kill(os.getpid(), signal.SIGINT)


_interrupt = _Interrupt()


@impl
def tox_add_core_config() -> None:
    """Install the handler while tox starts, in the main thread."""
    _interrupt.install()


@impl
def tox_before_run_commands(tox_env: Any) -> None:
    """Leave Ctrl-C to the service."""
    if tox_env.conf.name == _ENVIRONMENT:
        _interrupt.begin()


@impl
def tox_after_run_commands(tox_env: Any) -> None:
    """Take Ctrl-C back."""
    if tox_env.conf.name == _ENVIRONMENT:
        _interrupt.end()
