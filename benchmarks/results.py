"""What was measured, kept as JSON: each part with its targets, its time and its machine."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.servers import ROOT
from benchmarks.targets import Target

FOLDER = ROOT / "build" / "bench"
_LOAD_BEFORE = os.getloadavg()
_PACKAGES = ("gunicorn", "gevent", "flask", "pymongo", "fastapi", "uvicorn", "uvloop")


def record(part: str, figures: dict[str, Any], targets: Iterable[Target]) -> dict[str, Any]:
    """Keep ``figures`` as the newest of ``part`` and return all that is kept.

    Args:
        part: ``comparison``, ``pod`` or ``growth``.
        figures: dataclasses, or lists and dictionaries of them.
        targets: what they say of the targets.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results[part] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "targets": [dataclasses.asdict(target) for target in targets],
        **_plain(figures),
    }
    path.write_text(json.dumps(results, indent=1))
    return results


def machine() -> dict[str, str]:
    """Return what the figures depend on beside the code."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        # Of what else the machine had to do: this program has not begun.
        "load average before": ", ".join(f"{load:.1f}" for load in _LOAD_BEFORE),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": _commit(),
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    # JSON has no word for what was not seen.
    return None if isinstance(value, float) and math.isnan(value) else value


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    for line in information.read_text().splitlines() if information.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
