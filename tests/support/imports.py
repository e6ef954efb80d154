"""What a program imports, seen from outside its process."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.gunicorn import ROOT


def imported_by(program: str, **environment: str) -> set[str]:
    """Run ``program`` and return the names of the modules that are loaded at its end.

    Args:
        program: Python.
        environment: its variables; none is inherited but PATH.
    """
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nimport sys\nprint(*sys.modules, sep='\\n')"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())
