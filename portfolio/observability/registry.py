"""The metric registry: ``metrics.csv`` has a row for each metric of section 8 of the contract.

The exports, the reference (docs/generate.py), the dashboards and the tests derive from it.
``Metrics.readers`` has what reads each.

The collector turns dots into underscores and appends units and ``_total``: ``http.requests``
becomes ``http_requests_total``, ``http.request.duration`` in ``s``
``http_request_duration_seconds``. A unit in braces leaves no trace; ``1`` would append ``_ratio``.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

COUNTER = "counter"
GAUGE = "gauge"
HISTOGRAM = "histogram"

_UNIT_SUFFIXES = {"s": "_seconds", "By": "_bytes"}


class MetricSpec(NamedTuple):
    """One metric.

    Attributes:
        name: as OpenTelemetry has it.
        kind: one of those above, or ``up-down counter``.
        unit: of UCUM; a word in braces is an annotation.
        attributes: the names of its attributes, beside ``service``.
        panel: the dashboard panel that shows it.
        meaning: what it counts or measures.
    """

    name: str
    kind: str
    unit: str
    attributes: tuple[str, ...]
    panel: str
    meaning: str

    @property
    def prometheus_name(self) -> str:
        """The name under which Prometheus stores it."""
        name = self.name.replace(".", "_") + _UNIT_SUFFIXES.get(self.unit, "")
        return f"{name}_total" if self.kind == COUNTER else name


with Path(__file__).with_name("metrics.csv").open(encoding="utf-8", newline="") as _table:
    _rows = csv.reader(_table)
    next(_rows)  # the names of the columns
    METRICS = tuple(
        MetricSpec(name, kind, unit, tuple(attributes.split()), panel, meaning)
        for name, kind, unit, attributes, panel, meaning in _rows
    )
