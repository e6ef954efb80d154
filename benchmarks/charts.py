"""Curves of latency against load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
mpl.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#80889040",
        "legend.frameon": False,
    }
)

from matplotlib import pyplot  # noqa: E402  after the backend was chosen

from benchmarks.pod import P95_LIMIT_MS  # noqa: E402

_COLOURS = {"service": "#2f7ed8", "raw WSGI": "#8a94a0", "lean FastAPI": "#e08a2e"}
_PERCENTILES = ("p50", "p95", "p99")
# Of the answers to a point that is drawn full.
_MOST_REFUSED = 0.01


def save_latencies(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw each percentile against the load that was asked, one line for each contestant."""
    figure, panels = pyplot.subplots(1, len(_PERCENTILES), figsize=(11, 3.6), sharey=True)
    for panel, percentile in zip(panels, _PERCENTILES, strict=True):
        for title, points in curves.items():
            asked = [point["asked"] for point in points]
            values = [point["load"][percentile] for point in points]
            panel.plot(asked, values, color=_COLOURS[title], label=title)
            for point, value in zip(points, values, strict=True):
                load = point["load"]
                refused = load["errors"] > load["requests"] * _MOST_REFUSED
                face = "none" if refused else _COLOURS[title]
                panel.plot(point["asked"], value, "o", ms=3.5, mfc=face, mec=_COLOURS[title])
        panel.axhline(P95_LIMIT_MS, linestyle="--", linewidth=0.9, color="#c0504d")
        panel.set(title=percentile, xlabel="requests asked a second", yscale="log")
    panels[0].set_ylabel("milliseconds")
    panels[0].legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
