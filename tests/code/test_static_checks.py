"""Style, types and layers, each by its own tool: beside other tests, since mypy takes a while."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.support.gunicorn import ROOT


def check(tool: str, *arguments: str) -> None:
    """Run a tool of this environment on the repository; where it objects, show its report."""
    program = Path(sysconfig.get_path("scripts"), tool)
    done = subprocess.run(
        [program, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"{tool} {' '.join(arguments)}\n{done.stdout}", pytrace=False)


def test_types_are_right() -> None:
    check("mypy")


def test_imports_lead_down_the_layers() -> None:
    check("lint-imports")


def test_no_rule_of_style_is_broken() -> None:
    check("ruff", "check", ".")


def test_the_format_is_ruffs() -> None:
    check("ruff", "format", "--check", ".")
