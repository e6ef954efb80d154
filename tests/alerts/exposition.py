"""What the collector's configuration makes of metrics that arrived, in Prometheus' text format."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

from tests.support.collector import Collector, Series

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


class TextServer:
    """Serves a text at /metrics, on a free port of the loopback interface.

    Args:
        render: returns it.
    """

    def __init__(self, render: Callable[[], str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = render().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()


def _line(name: str, labels: dict[str, str], value: float) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in sorted(labels.items()))
    return f"{name}{{{inner}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
