"""Cells that a spreadsheet would run as a formula, and how they are made harmless.

The characters are those of OWASP's page on CSV injection.
"""

from __future__ import annotations

import re

_START = r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
# An apostrophe in front of such a character counts too, so that unescaping is exact.
_TO_ESCAPE = re.compile(f"'*{_START}")
_ESCAPED = re.compile(f"'+{_START}")


def escape_cell(cell: str) -> str:
    """Return ``cell`` with an apostrophe in front where a spreadsheet would run it."""
    return f"'{cell}" if _TO_ESCAPE.match(cell) else cell


def unescape_cell(cell: str) -> str:
    """Return the cell that ``escape_cell`` made ``cell`` of."""
    return cell[1:] if _ESCAPED.match(cell) else cell
