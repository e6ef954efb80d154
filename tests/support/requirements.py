"""What files of requirements ask for."""

from __future__ import annotations

import re
from pathlib import Path


def pins(path: Path) -> dict[str, str]:
    """Names and versions of a file of requirements, and of those that it includes."""
    text = path.read_text()
    found = {}
    for include in re.findall(r"^-r (\S+)", text, re.MULTILINE):
        found |= pins(path.parent / include)
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE):
        found[re.sub(r"[-_.]+", "-", name).lower()] = version
    return found
