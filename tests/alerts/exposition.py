"""What the collector's configuration makes of metrics that arrived, in Prometheus' text format."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

from tests.support.collector import Collector, Series
from tests.support.http_server import HTTPServer, Reply

_COPY = re.compile(r'set\(datapoint\.attributes\["(\w+)"\], resource\.attributes\["([\w.]+)"\]\)')
_MINUTE_S = 60


class Exposition:
    """Shows the series of a receiver as the collector's exporter for Prometheus does.

    Args:
        collector: has received them.
        config: the collector's configuration: which attributes of the resource become labels, and
            how long a series is shown after it last came.
    """

    def __init__(self, collector: Collector, config: Path) -> None:
        self._collector = collector
        settings = yaml.safe_load(config.read_text())
        statements = settings["processors"]["transform/labels"]["metric_statements"]
        self._copied = [match.groups() for match in map(_COPY.fullmatch, statements) if match]
        assert len(self._copied) == len(statements), "a statement that this does not understand"
        expiration = settings["exporters"]["prometheus"]["metric_expiration"]
        self._expires_after_s = int(expiration.removesuffix("m")) * _MINUTE_S

    def render(self) -> str:
        """Return what a scrape gets."""
        points = self._collector.snapshot(self._expires_after_s)
        lines = (line for series, point in points.items() for line in self._lines(series, point))
        return "\n".join(lines) + "\n"

    def _lines(self, series: Series, point: Any) -> Iterator[str]:
        labels = self._labels(series)
        if not hasattr(point, "explicit_bounds"):
            yield _line(series.name, labels, getattr(point, point.WhichOneof("value")))
            return
        bounds = [*(f"{bound:g}" for bound in point.explicit_bounds), "+Inf"]
        for bound, count in zip(bounds, accumulate(point.bucket_counts), strict=True):
            yield _line(f"{series.name}_bucket", labels | {"le": bound}, count)
        yield _line(f"{series.name}_sum", labels, point.sum)
        yield _line(f"{series.name}_count", labels, point.count)

    def _labels(self, series: Series) -> dict[str, str]:
        resource = self._collector.resources[series.instance]
        labels = {name.replace(".", "_"): str(value) for name, value in series.attributes}
        for label, attribute in self._copied:
            if attribute in resource:
                labels[label] = str(resource[attribute])
        name, namespace = resource["service.name"], resource.get("service.namespace")
        labels["job"] = f"{namespace}/{name}" if namespace else name
        return labels | {"instance": series.instance}


def serve_text(render: Callable[[], str]) -> HTTPServer:
    """Serve what ``render`` returns, as at /metrics."""
    headers = {"Content-Type": "text/plain; version=0.0.4"}
    return HTTPServer(lambda _: Reply(body=render().encode(), headers=headers))


def _line(name: str, labels: dict[str, str], value: float) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in sorted(labels.items()))
    return f"{name}{{{inner}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
