#!/usr/bin/env python3
"""Writes the table of metrics in reference.md; `--check` only compares it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from portfolio.observability.registry import METRICS, MetricSpec  # noqa: E402

REFERENCE = DOCS / "reference.md"
HEAD = "| metric | kind | attributes | meaning |\n| --- | --- | --- | --- |\n"


def row(metric: MetricSpec) -> str:
    """The row of one metric."""
    attributes = ", ".join(f"`{name}`" for name in metric.attributes)
    return f"| `{metric.prometheus_name}` | {metric.kind} | {attributes} | {metric.meaning} |\n"


def main(check: bool) -> None:
    """Write the table; with `check` end with status 1 where what is there differs."""
    table = HEAD + "".join(row(metric) for metric in METRICS)
    old = REFERENCE.read_text()
    new = re.sub(re.escape(HEAD) + r"(\|.*\n)*", lambda _: table, old)
    if not check:
        REFERENCE.write_text(new)
    elif new != old or table not in old:
        sys.exit("the table of metrics is not current: run docs/generate.py")


if __name__ == "__main__":
    main(check=sys.argv[1:] == ["--check"])
