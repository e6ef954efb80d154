"""Which names stand for streams: ``-``, ``/dev/stdout``, ``/dev/fd/63`` and the like."""

from __future__ import annotations

import re
import stat
from pathlib import Path

STANDARD_INPUT = 0
STANDARD_OUTPUT = 1
_STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)|/dev/(stdin|stdout|stderr)")


def descriptor_of(file: Path, dash: int) -> int | None:
    """Return the open descriptor that ``file`` is a name of, or None.

    Such a name must not be opened by its path: where the descriptor is a regular file, that would
    begin at its start, and a rename would take the file away from whoever else writes to it.

    Args:
        file: as the user gave it.
        dash: the descriptor that ``-`` stands for.
    """
    if str(file) == "-":
        return dash
    match = _DESCRIPTOR.fullmatch(str(file))
    if match is None:
        return None
    return int(match[1]) if match[1] else _STREAMS[match[2]]


def is_special(file: Path) -> bool:
    """Tell whether ``file`` exists and is no regular file: a named pipe, a device, a socket."""
    return file.exists() and not stat.S_ISREG(file.stat().st_mode)
