"""Schemathesis sends requests that conform to the document and that do not, and finds no fault.

It runs as a program of its own against a real Gunicorn, with all its checks and phases: examples,
edges of each parameter, random values, and sequences of calls along the document's links.
``SCHEMATHESIS_EXAMPLES`` sets how many random requests an operation gets at most.
"""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from portfolio.devserver.mongod import Mongod
from tests.support.gunicorn import Gunicorn

_PROGRAM = Path(sysconfig.get_path("scripts")) / "schemathesis"
_HERE = Path(__file__).parent


@pytest.mark.slow
def test_every_response_is_documented(
    serve: Callable[..., Gunicorn], replica_set: Mongod, database_name: str, tmp_path: Path
) -> None:
    gunicorn = serve(replica_set.uri, MONGODB_DB=database_name)
    gunicorn.wait_ready()
    found = subprocess.run(
        [
            _PROGRAM,
            f"--config-file={_HERE / 'schemathesis.toml'}",
            "run",
            f"{gunicorn.url}/openapi.json",
            # Schemathesis does not resolve the document's server, which is relative to it.
            f"--url={gunicorn.url}",
            "--checks=all",
            "--continue-on-failure",
            f"--max-examples={os.environ.get('SCHEMATHESIS_EXAMPLES', '100')}",
        ],
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(_HERE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-20_000:]
    assert re.search(r"[0-9]{3,} generated, [0-9]{3,} passed", found.stdout), found.stdout
