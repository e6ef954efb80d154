"""Tables of what a run has seen: shown at its end, and written to a file where one is named."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import pytest


def add_option(parser: pytest.Parser, title: str) -> None:
    """Let ``--TITLE-table FILE`` name the file for the table of that title."""
    parser.addoption(f"--{title}-table", type=Path, help="write the table here, Markdown")


def recorded(reporter: Any, name: str) -> list[Any]:
    """Return what tests have given to ``record_property`` under a name, in the order of tests."""
    reports = reporter.getreports("passed") + reporter.getreports("failed")
    return [
        value
        for report in sorted(reports, key=lambda report: report.nodeid)
        for key, value in report.user_properties
        if key == name
    ]


def show(
    reporter: Any, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *notes: str
) -> None:
    """Show a table, unless it has no rows, and write it where the option of its title says."""
    rows = list(rows)
    if not rows:
        return
    lines = ["| " + " | ".join(row) + " |" for row in (columns, ["---"] * len(columns), *rows)]
    if notes:
        lines += ["", *notes]
    reporter.section(title)
    for line in lines:
        reporter.write_line(line)
    path = reporter.config.getoption(f"--{title}-table", default=None)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")


def machine() -> str:
    """Return when and on what the run was made, and how busy that is."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{date.today()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"{memory:.0f} GiB, Python {platform.python_version()}, MongoDB and the load on the same "
        f"machine; load average at the end {os.getloadavg()[0]:.1f}"
    )
