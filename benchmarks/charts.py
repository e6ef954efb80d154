"""Curves of latency against load, and against the size of the collection."""

from __future__ import annotations

import io
from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
mpl.rcParams.update(
    {
        "font.size": 9,
        "svg.fonttype": "none",
        # Legible on a light page and on a dark one.
        "text.color": "#808890",
        "axes.labelcolor": "#808890",
        "axes.edgecolor": "#808890",
        "xtick.color": "#808890",
        "ytick.color": "#808890",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#80889040",
        "legend.frameon": False,
    }
)

from matplotlib import pyplot  # noqa: E402  after the backend was chosen
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from benchmarks.pod import P95_LIMIT_MS  # noqa: E402

COLOURS = {"service": "#2f7ed8", "raw WSGI": "#8a94a0", "lean FastAPI": "#e08a2e"}
_PERCENTILES = ("p50", "p95", "p99")
# Of the answers to a point that is drawn full.
_MOST_REFUSED = 0.01
_MARKS = "osD^vP*"


def latency_curves(curves: dict[str, list[dict[str, Any]]]) -> Figure:
    """Draw each percentile against the load that was asked, one line for each contestant."""
    figure, panels = pyplot.subplots(1, len(_PERCENTILES), figsize=(11, 3.6), sharey=True)
    for panel, percentile in zip(panels, _PERCENTILES, strict=True):
        for title, points in curves.items():
            _line(panel, points, percentile, label=title, colour=COLOURS.get(title))
        _limit(panel)
        panel.set(title=percentile, xlabel="requests asked a second", yscale="log")
    panels[0].set_ylabel("milliseconds")
    panels[0].legend(loc="lower right")
    figure.tight_layout()
    return figure


def pod_curves(steps: list[dict[str, Any]], raw: list[dict[str, Any]]) -> Figure:
    """Draw the percentiles inside the pod's limits against the load, and raw WSGI's p95."""
    figure, panel = pyplot.subplots(figsize=(5.4, 3.4))
    for percentile, colour in zip(_PERCENTILES, ("#7fb2ea", "#2f7ed8", "#174b86"), strict=True):
        _line(panel, steps, percentile, label=percentile, colour=colour)
    _line(panel, raw, "p95", label="p95 of raw WSGI", colour=COLOURS["raw WSGI"])
    _limit(panel)
    panel.set(xlabel="requests asked a second", ylabel="milliseconds", yscale="log")
    panel.legend(loc="upper left")
    figure.tight_layout()
    return figure


def growth_curves(sizes: list[dict[str, Any]], titles: dict[str, str]) -> Figure:
    """Draw the median of each operation against the number of documents, both logarithmic."""
    figure, panel = pyplot.subplots(figsize=(7.6, 4.2))
    documents = [size["documents"] for size in sizes]
    for mark, (key, title) in zip(cycle(_MARKS), titles.items(), strict=False):
        medians = [size["latencies"][key]["p50"] for size in sizes]
        panel.plot(documents, medians, marker=mark, markersize=4, label=title)
    panel.set(xscale="log", yscale="log", xlabel="documents", ylabel="milliseconds, median")
    panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` as a PNG on white."""
    figure.savefig(path, dpi=150, facecolor="white")


def as_svg(figure: Figure) -> str:
    """Return ``figure`` as an SVG element, to be put into a page."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True)
    pyplot.close(figure)
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _line(
    panel: Axes,
    points: Iterable[dict[str, Any]],
    percentile: str,
    *,
    label: str,
    colour: str | None,
) -> None:
    points = list(points)
    asked = [point["asked"] for point in points]
    values = [point["load"][percentile] for point in points]
    (line,) = panel.plot(asked, values, color=colour, label=label)
    for point, value in zip(points, values, strict=True):
        load = point["load"]
        refused = load["errors"] > load["requests"] * _MOST_REFUSED
        face = "none" if refused else line.get_color()
        panel.plot(point["asked"], value, "o", ms=3.5, mfc=face, mec=line.get_color())


def _limit(panel: Axes) -> None:
    panel.axhline(P95_LIMIT_MS, linestyle="--", linewidth=0.9, color="#c0504d")
