"""What the log of a ``mongod`` says about the end of the process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_LOG_TAIL_BYTES = 256 * 1024


def read_log(log: Path, start: int) -> str:
    """Return the log from position ``start``, or its end if that is too long."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(start, end - _LOG_TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def first_error(text: str) -> str:
    """Return a colon and the first error in the log ``text``, or an empty string.

    Until ``mongod`` runs, what the system prints is an error.
    """
    for line in filter(None, map(str.strip, text.splitlines())):
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError:
            return f": {line}"
        if found["s"] in ("E", "F"):
            return f": {_summarize(found)}"
    return ""


def _summarize(line: dict[str, Any]) -> str:
    """Return the message of a log line, with the cause from its attributes."""
    error, message = (line.get("attr", {}).get(name) for name in ("error", "message"))
    causes = [error.get("errmsg") if isinstance(error, dict) else error]
    if isinstance(message, dict):  # from WiredTiger, after its location in the code
        causes = [str(message.get("msg", "")).split(":", 2)[-1].strip(), message.get("error_str")]
    return ", ".join(filter(None, (" ".join(line["msg"].split()), *causes)))
