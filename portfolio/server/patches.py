"""What is done before anything else is imported: ``gunicorn.conf.py`` begins with this module.

The raw baseline of ``benchmarks/`` begins with it too, so that neither has what the other lacks.
"""

# Before anything that opens sockets, makes locks or imports ssl: what was imported earlier would
# keep blocking calls, and with preload_app the master imports the application too.
from gevent import events, monkey

# gevent tells installed plugins of each thing that it patches, and reads the metadata of every
# package to find them: a third of the CPU that it takes to start. There are none here.
events.notify_and_call_entry_points = events.notify  # type: ignore[attr-defined]
monkey.patch_all()

import gc

# Imports make hundreds of thousands of objects and no garbage; ``freeze`` switches it on again.
gc.disable()

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def _is_owned(condition: Any) -> bool:
    """Tell whether a condition's lock is held, by looking.

    The stock method tries to take it, and gevent yields to all others when that fails: PyMongo's
    pool asks twice a command, while it holds its lock. To look instead saves a fourteenth of the
    time of a command (benchmarks/layers.py).
    """
    return bool(condition._lock.locked())


stock_is_owned = threading.Condition._is_owned  # type: ignore[attr-defined]
threading.Condition._is_owned = _is_owned  # type: ignore[attr-defined]


def freeze() -> None:
    """Move what is loaded out of the garbage collector's sight, so that workers share it longer."""
    gc.freeze()
    gc.enable()


class _Later:
    """A pattern that is compiled when it is first used."""

    def __init__(self, *pattern: Any) -> None:
        self._pattern = pattern

    def match(self, text: str) -> re.Match[str] | None:
        return re.compile(*self._pattern).match(text)


@contextmanager
def large_patterns_later() -> Iterator[None]:
    """Leave patterns that name every letter of Unicode to be compiled when they are first used."""
    compile_now = re.compile

    def compile_or_wait(*pattern: Any) -> Any:
        return (_Later if "\uffff" in str(pattern[0]) else compile_now)(*pattern)

    re.compile = compile_or_wait  # type: ignore[assignment]
    try:
        yield
    finally:
        re.compile = compile_now
