"""Results as text for a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from benchmarks.growth import operations
from benchmarks.operations import OPERATIONS
from benchmarks.targets import LEAN, RAW, SERVICE

TITLES = {operation.key: operation.title for operation in OPERATIONS}
_NUMBER = re.compile(r"[\d.,/ ]*")

GROWTH_TITLES = {operation.key: operation.title for operation in operations(1)}


def comparison(part: dict[str, Any]) -> str:
    """Return the tables of the closed loop, of its cost and of the open loop."""
    rows = [["16 connections", "", "req/s", "p50", "p95", "p99 ms", "errors", "of raw", "of lean"]]
    cost = [["requests per CPU second", "", "req/CPU s", "of raw", "of lean"]]
    for key, figures in part["closed"].items():
        for title, seen in figures.items():
            first = TITLES[key] if title == SERVICE else ""
            latencies = [f"{seen[name]:.1f}" for name in ("p50", "p95", "p99")]
            ratios = [_ratio(figures, title, other, "rate") for other in (RAW, LEAN)]
            rows.append(
                [first, title, f"{seen['rate']:,.0f}", *latencies, str(seen["errors"]), *ratios]
            )
            ratios = [_ratio(figures, title, other, "per_cpu_second") for other in (RAW, LEAN)]
            cost.append([first, title, f"{seen['per_cpu_second']:,.0f}", *ratios])
    curves = [["open loop, mix", "asked/s", "req/s", "p50", "p95", "p99 ms", "errors"]]
    for title, points in part["curves"].items():
        curves += [[title if not index else "", *_point(p)] for index, p in enumerate(points)]
    return "\n\n".join(map(table, (rows, cost, curves)))


def pod(part: dict[str, Any]) -> str:
    """Return the tables of the pod, or why it was not measured."""
    if "skipped" in part:
        return f"pod: skipped, {part['skipped']}"
    starts = [["pod: start", "ready after s", "CPU s"]]
    starts += [
        ["", f"{start['seconds']:.1f}", f"{start['cpu_seconds']:.2f}"] for start in part["starts"]
    ]
    costs = [["pod: CPU µs a request at 50/s", SERVICE, RAW]]
    costs += [
        [TITLES[key], f"{cost:,.0f}", f"{part['raw_costs'][key]:,.0f}"]
        for key, cost in part.get("costs", {}).items()
    ]
    steps = [["pod: open loop, mix", "asked/s", "req/s", "p50", "p95", "p99 ms", "errors"]]
    for title, name in ((SERVICE, "steps"), (RAW, "raw_steps")):
        points = part.get(name, [])  # what an earlier version measured lacks the second
        steps += [[title if not index else "", *_point(p)] for index, p in enumerate(points)]
    return "\n\n".join(map(table, (starts, costs, steps)))


def growth(part: dict[str, Any]) -> str:
    """Return the table of a growing collection."""
    sizes = part["sizes"]
    rows = [["p50 / p95 in ms", *(f"{size['documents']:,}" for size in sizes)]]
    for key, title in GROWTH_TITLES.items():
        cells = [size["latencies"][key] for size in sizes]
        rows.append([title, *(_latency(cell) for cell in cells)])
    listings = [size["listing"] for size in sizes]
    rows.append(["v1 list, s", *(f"{listing['seconds']:.2f}" for listing in listings)])
    grown = (f"{listing['memory_growth_mib']:.1f}" for listing in listings)
    rows.append(["v1 list, worker grows MiB", *grown])
    return table(rows)


def targets(part: dict[str, Any]) -> str:
    """Return the targets of a part, each beside what was measured."""
    rows = [["target", "promised", "measured", ""]]
    for each in part["targets"]:
        met = "met" if each["met"] else "NOT MET"
        rows.append([each["subject"], each["target"], each["measured"], met])
    return table(rows)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return ``rows`` aligned, the first one underlined; columns of numbers to the right."""
    columns = []
    for head, *cells in zip(*rows, strict=True):
        width = max(map(len, (head, *cells)))
        numbers = all(_NUMBER.fullmatch(cell) for cell in cells)
        align = str.rjust if numbers else str.ljust
        columns.append([align(cell, width) for cell in (head, "-" * width, *cells)])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _ratio(figures: dict[str, Any], title: str, other: str, name: str) -> str:
    return f"{figures[title][name] / figures[other][name]:.2f}" if title != other else ""


def _point(point: dict[str, Any]) -> list[str]:
    load = point["load"]
    rate = (load["requests"] - load["errors"]) / load["seconds"]
    latencies = [f"{load[name]:.1f}" for name in ("p50", "p95", "p99")]
    return [f"{point['asked']:g}", f"{rate:.0f}", *latencies, str(load["errors"])]


def _latency(cell: dict[str, Any]) -> str:
    failed = f", {cell['errors']} failed" if cell["errors"] else ""
    return f"{cell['p50']:.2f} / {cell['p95']:.2f}{failed}"
