"""Results as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from html import escape
from typing import Any

from benchmarks import charts, report
from benchmarks.results import FOLDER
from benchmarks.targets import LEAN, RAW, SERVICE

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2730; --dim: #66727e; --line: #dde3e9; --card: #fff;
  --page: #f4f6f8; --good: #1a7f4b; --bad: #b3412e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --dim: #93a0ac; --line: #2c3640;
  --card: #182028; --page: #10161c; --good: #4cc38a; --bad: #f08a75; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums }
main { max-width: 70rem; margin: 0 auto; padding: 2rem 1.25rem 4rem }
h1 { font-size: 1.7rem; margin: 0 } h2 { font-size: 1.15rem; margin: 0 0 .75rem }
p { max-width: 46rem } .dim, small { color: var(--dim) }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.25rem 1.5rem; margin-top: 1.25rem; overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th { text-align: left; font-weight: 600; color: var(--dim); font-size: .85rem }
th, td { padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
tr:last-child td { border-bottom: 0 }
.number { text-align: right } .met, .missed { font-weight: 600; white-space: nowrap }
.met { color: var(--good) } .missed { color: var(--bad) }
.beside { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: center }
pre { font: 13px/1.45 ui-monospace, monospace; margin: 0; overflow-x: auto }
.bar { height: .65rem; border-radius: 3px; min-width: 2px }
.key { display: inline-block; width: .7rem; height: .7rem; border-radius: 2px;
  margin-right: .35rem }
svg { max-width: 100%; height: auto }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0 }
dt { color: var(--dim) } dd { margin: 0 }
"""


def write(results: dict[str, Any]) -> None:
    """Write the page and the plots of all ``results`` into the folder of results."""
    sections = []
    for part, draw in (("comparison", _comparison), ("pod", _pod), ("growth", _growth)):
        if part in results:
            sections += draw(results[part])
    newest = max(results.values(), key=lambda part: part["when"])
    targets = [target for part in results.values() for target in part["targets"]]
    page = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Portfolio Service: how fast</title><style>{_STYLE}</style>
<main><h1>How fast the Portfolio Service is</h1>
<p class="dim">With the production profile, beside what else could be had on the same machine in the
same run: raw WSGI and PyMongo without a framework, and a lean FastAPI with PyMongo's async client.
Two worker processes each. Rates are of this machine; what holds elsewhere are the ratios.</p>
{_targets(targets)}{"".join(sections)}{_machine(newest)}</main></html>
"""
    (FOLDER / "index.html").write_text(page)


def _targets(targets: list[dict[str, Any]]) -> str:
    met = sum(target["met"] for target in targets)
    rows = "".join(
        f"<tr><td>{escape(target['subject'])}<td>{escape(target['target'])}"
        f"<td>{escape(target['measured'])}<td>{_verdict(target['met'])}"
        for target in targets
    )
    head = "<tr><th>target<th>promised<th>measured<th>"
    title = f"Targets: {met} of {len(targets)} met"
    return _section(title, f"<table>{head}{rows}</table>")


def _comparison(part: dict[str, Any]) -> list[str]:
    figure = charts.latency_curves(part["curves"])
    charts.save(figure, FOLDER / "latency.png")
    keys = "".join(
        f'<span><i class="key" style="background:{colour}"></i>{title}</span> &emsp;'
        for title, colour in charts.COLOURS.items()
    )
    closed = "".join(_bars(key, figures) for key, figures in part["closed"].items())
    head = '<tr><th><th style="width:34%"><th class="number">requests/s<th class="number">p95 ms'
    head += '<th class="number">p99 ms<th class="number">requests/CPU s<th class="number">of raw'
    head += '<th class="number">of lean'
    return [
        _section(
            "Sixteen connections, each with its next request at once",
            f"<p>{keys}</p><table>{head}{closed}</table>"
            "<small>Medians of short turns. The last two columns are ratios of requests a second; "
            "a request per CPU second is what a request costs the server's own processes.</small>",
        ),
        _section(
            "Latency against load",
            f"{charts.as_svg(figure)}<small>Requests leave on a fixed schedule: 70% GET one, 15% "
            "page of 50, 10% create, 5% bulk of 10. A latency counts from when its request was "
            "due; refusals count as well. Hollow: more than one in a hundred was refused. "
            "Dashed: 50 ms.</small>",
        ),
    ]


def _bars(key: str, figures: dict[str, Any]) -> str:
    most = max(seen["rate"] for seen in figures.values())
    rows = ""
    for title, seen in figures.items():
        width = 100 * seen["rate"] / most
        numbers = [f"{seen['rate']:,.0f}", f"{seen['p95']:.1f}", f"{seen['p99']:.1f}"]
        numbers.append(f"{seen['per_cpu_second']:,.0f}")
        for other in (RAW, LEAN):
            ratio = seen["rate"] / figures[other]["rate"]
            numbers.append(f"{ratio:.2f}" if title == SERVICE else "")
        colour = charts.COLOURS[title]
        rows += f"<tr><td>{report.TITLES[key] if title == SERVICE else ''}"
        rows += f'<td><div class="bar" style="width:{width:.1f}%;background:{colour}"></div>'
        rows += "".join(f'<td class="number">{number}' for number in numbers)
    return rows


def _pod(part: dict[str, Any]) -> list[str]:
    title = "Inside a pod: a fifth of a CPU, 256 MiB"
    if "skipped" in part:
        return [_section(title, f"<p>Skipped: {escape(part['skipped'])}.</p>")]
    figure = charts.pod_curves(part["steps"], part.get("raw_steps", []))
    charts.save(figure, FOLDER / "pod.png")
    return [_section(title, _beside(charts.as_svg(figure), report.pod(part)))]


def _growth(part: dict[str, Any]) -> list[str]:
    figure = charts.growth_curves(part["sizes"], report.GROWTH_TITLES)
    charts.save(figure, FOLDER / "growth.png")
    text = report.growth(part)
    return [_section("As the collection grows", _beside(charts.as_svg(figure), text))]


def _machine(part: dict[str, Any]) -> str:
    facts = {"measured": part["when"], **part["machine"]}
    rows = "".join(f"<dt>{escape(name)}<dd>{escape(value)}" for name, value in facts.items())
    return _section("Where", f"<dl>{rows}</dl>")


def _beside(figure: str, text: str) -> str:
    return f'<div class="beside"><div>{figure}</div><pre>{escape(text)}</pre></div>'


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _verdict(met: bool) -> str:
    return '<span class="met">met</span>' if met else '<span class="missed">not met</span>'
