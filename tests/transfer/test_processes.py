"""Import and export in pipelines, as a shell starts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from pymongo.collection import Collection

from portfolio.config import Settings
from tests.support.commands import run_process, run_script

Documents = Collection[dict[str, Any]]
NAMES = [f"Fund {number}" for number in range(30)]
LINES = b"".join(b'{"name": "%b"}\n' % name.encode() for name in NAMES)

# Names, when all else is done at the exit, the threads that nothing has waited for.
NAMES_THREADS = """
import atexit, sys, threading
atexit.register(lambda: print(*[each.name for each in threading.enumerate()], file=sys.stderr))
from flask.cli import main; main()
"""

# Logs as a thread may do at any time.
LOGS = """
import atexit, logging
atexit.register(lambda: logging.getLogger("portfolio").error("a thread failed"))
from flask.cli import main; main()
"""


def exported_names(lines: bytes) -> list[str]:
    return sorted(json.loads(line)["name"] for line in lines.splitlines())


def test_a_pipe_is_read_and_written(
    app: Flask, collection: Documents, settings: Settings, tmp_path: Path
) -> None:
    imported = run_process(settings, "import", "-", input=LINES)
    assert imported.stdout == b"30 imported, 0 there already, 0 skipped\n"
    assert imported.stderr == b""
    exported = run_process(settings, "export", "-")
    assert exported_names(exported.stdout) == sorted(NAMES)
    assert exported.stderr == b""
    again = run_process(settings, "import", "-", "--format", "ndjson", input=exported.stdout)
    assert again.stdout == b"0 imported, 30 there already, 0 skipped\n"


def test_what_is_logged_is_not_in_the_output(app: Flask, settings: Settings) -> None:
    ran = run_process(settings, "export", "-", program=LOGS)
    assert (ran.returncode, ran.stdout) == (0, b"")
    assert b'"msg":"a thread failed"' in ran.stderr


@pytest.mark.slow
def test_process_substitution_and_other_shell_habits(
    app: Flask, collection: Documents, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "in.ndjson").write_bytes(LINES)
    ran = run_script(
        settings,
        f"""
        cd {tmp_path}
        here() {{ (cd "$OLDPWD" && portfolios "$@"); }}
        here import <(cat {tmp_path}/in.ndjson)
        here export >(cat > {tmp_path}/substituted)
        (echo before; here export /dev/stdout; echo after) > appended
        here export - --format csv | head -n 1 > first
        echo "${{PIPESTATUS[0]}}"
        """,
    )
    assert ran.stderr == b""
    assert ran.stdout.splitlines()[0] == b"30 imported, 0 there already, 0 skipped"
    appended = (tmp_path / "appended").read_bytes().splitlines()
    assert (appended[0], appended[-1], len(appended)) == (b"before", b"after", 32)
    assert (tmp_path / "first").read_text() == "portfolioId,name,dateCreated,version\n"
    assert exported_names((tmp_path / "substituted").read_bytes()) == sorted(NAMES)


def test_a_command_does_not_wait_for_threads_of_pymongo_that_sleep(
    app: Flask, settings: Settings
) -> None:
    ran = run_process(settings, "export", "-", program=NAMES_THREADS)
    assert ran.returncode == 0, ran.stderr
    assert b"pymongo" in ran.stderr
