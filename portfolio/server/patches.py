"""What is patched before anything else is imported: ``gunicorn.conf.py`` begins with this module.

The raw baseline of ``benchmarks/`` begins with it too, so that both run under the same patches.
"""

# First: whatever opens sockets, makes locks or imports ssl before this keeps its blocking calls.
from gevent import events, monkey

# PRIVATE API: gevent==26.9.0, events.notify_and_call_entry_points. For each module that it patches,
# gevent reads the metadata of every installed package in search of plugins, of which the service
# has none. Without the search a start takes a third less CPU.
events.notify_and_call_entry_points = events.notify  # type: ignore[attr-defined]
monkey.patch_all()

import gc

# Imports create no garbage; ``freeze`` enables the collector again.
gc.disable()

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

# PRIVATE API: python==3.14, threading.Condition._is_owned. The stock method tries to acquire the
# lock, and gevent switches to other greenlets when that fails; PyMongo's pool asks twice a command
# while it holds the lock. To look at the lock instead saves 7% of the time of a command.
stock_is_owned = threading.Condition._is_owned  # type: ignore[attr-defined]
threading.Condition._is_owned = lambda condition: condition._lock.locked()  # type: ignore[attr-defined]


def freeze() -> None:
    """Exempt all that is loaded from garbage collection, so that workers share its memory."""
    gc.freeze()
    gc.enable()


@contextmanager
def lazy_unicode_patterns() -> Iterator[None]:
    """Compile patterns over all of Unicode on first use, if they are created inside this block."""
    compile_now = re.compile

    def compile_or_wait(*pattern: Any) -> Any:
        if "\uffff" not in str(pattern[0]):
            return compile_now(*pattern)
        return SimpleNamespace(match=lambda text: compile_now(*pattern).match(text))

    # PRIVATE API: marshmallow==4.4.0, patterns that marshmallow.validate compiles when it is
    # imported: those of e-mail addresses, which no portfolio has. To leave them out saves 7% of the
    # CPU of a start.
    re.compile = compile_or_wait  # type: ignore[assignment]
    try:
        yield
    finally:
        re.compile = compile_now
