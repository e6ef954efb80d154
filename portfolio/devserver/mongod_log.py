"""The log of a ``mongod``, and what it says about the end of the process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# Exit codes of mongod.
_NEEDS_OTHER_VERSION = 62
_MISSING_LIBRARY = 127
_LIBRARY_HINT = (
    "Install the library (Debian, Ubuntu: libcurl4), or set MONGODB_URI to a MongoDB of your own."
)
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


def explain_exit(code: int, text: str, folder: Path, log: Path) -> str:
    """Return why a process ended, in one line.

    Args:
        code: its exit code.
        text: what it has logged.
        folder: its data.
        log: the log file.
    """
    where = f" Its log: {log}"
    if "No space left on device" in text:
        return f"mongod ended: no space left on the disk of {folder}.{where}"
    if code == _NEEDS_OTHER_VERSION or "unsupported WiredTiger file version" in text:
        return (
            f"mongod ended: the files in {folder} are of another version of MongoDB. "
            f"Put that version on PATH, or move the folder away to begin anew.{where}"
        )
    if code == _MISSING_LIBRARY:
        return f"mongod can't run: {text.strip()}. {_LIBRARY_HINT}"
    return f"mongod ended with code {code}{first_error(text)}.{where}"


def first_error(text: str) -> str:
    """Return a colon and the first error in the log ``text``, or an empty string."""
    for line in text.splitlines():
        found = _parse_log_line(line)
        if found.get("s") in ("E", "F"):
            return f": {_summarize(found)}"
    return ""


def _parse_log_line(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _summarize(line: dict[str, Any]) -> str:
    """Return the message of a log line, with the cause from its attributes."""
    attributes = line.get("attr")
    cause = ""
    if isinstance(attributes, dict):
        error, message = attributes.get("error"), attributes.get("message")
        if isinstance(error, dict | str):
            cause = error.get("errmsg", "") if isinstance(error, dict) else error
        elif isinstance(message, dict):  # from WiredTiger, after its location in the code
            cause = str(message.get("msg", "")).split(":", 2)[-1]
    return ", ".join(filter(None, (" ".join(f"{line.get('msg', '')}".split()), cause)))
