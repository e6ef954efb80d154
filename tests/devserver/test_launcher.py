"""``python -m portfolio.devserver``: one command that serves on one's own machine."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import requests

from portfolio.devserver.data_folder import local_environment
from tests.devserver.conftest import LocalRun
from tests.support.calls import V1, V2, one
from tests.support.gunicorn import ROOT, wait_until


def flask(run: LocalRun, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout of ``run``, in a shell that knows nothing of it."""
    kept = {name: run.environment[name] for name in ("PATH", "PORTFOLIO_RUNTIME_DIR")}
    return subprocess.run(
        [sys.executable, "-m", "flask", *arguments],
        cwd=run.folder,
        env=kept | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_a_local_run_ends_cleanly_and_finds_its_data_again(
    local: Callable[..., LocalRun], tmp_path: Path
) -> None:
    first = local()
    first.wait_ready()
    assert first.url("/") in first.said
    example = re.search(r"curl .*?'\{.*?\}'", first.said, re.DOTALL)
    assert example is not None
    assert first.url(V1) in example[0]
    created = requests.post(first.url(V1), json={"name": "Kept"}, timeout=10).json()
    database = requests.get(first.url("/health/detailed"), timeout=10).json()["checks"]["database"]
    assert (database["status"], database["topology"]) == ("healthy", "replica set")
    assert first.end(signal.SIGINT) == (0, set())

    # A note that is damaged costs nothing.
    (tmp_path / ".data" / "run.json").write_bytes(b"\xff garbage")
    second = local()
    second.wait_ready()
    found = requests.get(second.url(one(created["portfolioId"])), timeout=10)
    assert found.json() == created
    assert second.end(signal.SIGTERM) == (0, set())


def test_ctrl_c_in_tox_is_no_failure_and_the_log_is_for_people(
    local: Callable[..., LocalRun], tmp_path: Path
) -> None:
    for name in ("tox.ini", "toxfile.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    # The environment that runs this test lends its libraries: to install them takes a minute.
    libraries = f"testenv:serve.set_env=PYTHONPATH={tmp_path}:{Path(pytest.__file__).parents[1]}"
    python = f"testenv:serve.base_python={sys.executable}"
    options = ("-e", "serve", "-x", "testenv:serve.deps=", "-x", libraries, "-x", python)
    run = local((sys.executable, "-m", "tox", *options), terminal=True, WEB_CONCURRENCY="2")
    run.wait_ready()
    assert "Ctrl-C ends it." in run.said
    requests.get(run.url(V2), timeout=10)
    requests.get(run.url("/health/ready"), timeout=10)
    requests.get(run.url("/nowhere%0a%1b[2J"), timeout=10)
    run.wait_said("404")
    assert "\x1b[32mGET" in run.said
    logged = run.plain.partition("Ctrl-C ends it.")[2]
    assert re.search(r"^\d\d:\d\d:\d\d GET /api/v2/portfolios 200 \d+\.\d ms$", logged, re.M)
    assert re.search(r"^\d\d:\d\d:\d\d GET /nowhere\\n\\x1b\[2J 404 ", logged, re.M)
    assert "/health" not in run.plain
    assert '{"' not in logged

    servers = [
        each for each in run.process.children(recursive=True) if "gunicorn" in each.cmdline()
    ]
    assert {each.environ()["DRAIN_SECONDS"] for each in servers} == {"0"}, "it ends at once"
    run.press_ctrl_c()
    assert run.wait() == 0
    assert run.remaining() == set()
    assert "serve: OK" in run.said
    assert not re.search("FAIL|evaluation failed|KeyboardInterrupt|SKIP", run.said)


@pytest.mark.slow
def test_a_terminal_that_is_closed_leaves_nothing_behind(local: Callable[..., LocalRun]) -> None:
    run = local(terminal=True)
    run.wait_ready()
    assert len(run.family()) >= 4  # launcher, mongod, Gunicorn, worker
    run.close_terminal()
    assert run.remaining() == set()


@pytest.mark.slow
def test_a_launcher_that_is_killed_leaves_nothing_behind_and_can_be_started_again(
    local: Callable[..., LocalRun],
) -> None:
    killed = local()
    killed.wait_ready()
    created = requests.post(killed.url(V1), json={"name": "Kept"}, timeout=10).json()
    killed.process.kill()
    assert killed.remaining() == set()
    again = local(PORT=str(killed.port))
    again.wait_ready()
    assert requests.get(again.url(one(created["portfolioId"])), timeout=10).json() == created
    assert again.end(signal.SIGTERM) == (0, set())


@pytest.mark.slow
def test_one_run_at_a_time_and_commands_find_it(
    local: Callable[..., LocalRun], tmp_path: Path
) -> None:
    run = local()
    run.wait_ready()

    second = local()
    assert second.wait() == 1
    assert f"runs from this folder already: {run.url('')}" in second.said

    elsewhere = local(folder=tmp_path / "elsewhere", PORT=str(run.port))
    assert elsewhere.wait() == 1
    in_use = rf"Port {run.port} can't be used: Address already in use by PID \d+, .*gunicorn"
    assert re.search(in_use, elsewhere.said)
    assert elsewhere.remaining() == set()
    for other in (second, elsewhere):
        assert "Traceback" not in other.said

    seeded = flask(run, "db", "seed", "3")
    assert "3 portfolios created" in seeded.stdout, seeded.stderr
    assert len(requests.get(run.url(V1), timeout=10).json()) == 3
    shown = flask(run, "config", "show").stdout
    assert re.search(rf"PORT +{run.port} +tox -e serve", shown)
    assert re.search(r"MONGODB_URI +mongodb://127\.0\.0\.1:\d+/\S+ +tox -e serve", shown)
    # Who names another gets that one.
    refused = flask(run, "db", "ping", MONGODB_URI="mongodb://app:hunter2@127.0.0.1:9").stderr
    assert refused == (
        "Error: MongoDB at mongodb://app:***@127.0.0.1:9 does not answer: 127.0.0.1:9: "
        "[Errno 111] Connection refused. Check MONGODB_URI.\n"
    )

    # No terminal: JSON, whatever is logged.
    logged = [line for line in run.said.splitlines() if line.startswith("{")]
    assert "request" in {json.loads(line)["msg"] for line in logged}

    # Of what was there, a run that has ended leaves nothing to be found.
    assert run.end(signal.SIGINT) == (0, set())
    assert local_environment(tmp_path / ".data") == {}


@pytest.mark.slow
def test_a_mongod_that_ends_takes_the_run_with_it_and_is_told(
    local: Callable[..., LocalRun],
) -> None:
    run = local()
    run.wait_ready()
    with (run.folder / ".data" / "mongodb" / "mongod.log").open("a") as log:
        log.write('{"s": "E", "msg": "of another matter"}\n')
    (mongod,) = [each for each in run.family() if each.name() == "mongod"]
    mongod.kill()
    assert run.wait() == 1
    assert "Error: mongod ended with code -9. Its log: .data/mongodb/mongod.log" in run.said
    assert run.remaining() == set()


@pytest.mark.slow
def test_a_signal_while_it_starts_ends_it_too(local: Callable[..., LocalRun]) -> None:
    run = local()
    run.wait_said("MongoDB: mongod")
    wait_until(lambda: len(run.family()) > 1, "mongod is started")
    assert run.end(signal.SIGINT) == (0, set())
    assert "Traceback" not in run.said


# Types Ctrl-C when pymongo is imported.
INTERRUPTED = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "pymongo":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
runpy.run_module("portfolio.devserver", run_name="__main__")
"""


def test_a_signal_before_it_has_begun_ends_it_too(local: Callable[..., LocalRun]) -> None:
    run = local((sys.executable, "-c", INTERRUPTED))
    assert (run.wait(), run.said) == (0, "")


def test_a_port_in_use_is_told(local: Callable[..., LocalRun]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        run = local(PORT=str(taken.getsockname()[1]))
        assert run.wait() == 1
    assert f"can't be used: Address already in use by PID {os.getpid()}, " in run.said
    assert "Stop the program" in run.said
    assert run.remaining() == set()


def test_a_value_that_does_not_parse_is_told(local: Callable[..., LocalRun]) -> None:
    run = local(LOG_LEVEL="LOUD")
    assert run.wait() == 1
    assert "LOG_LEVEL='LOUD'" in run.said
    assert len(run.said.splitlines()) == 1


@pytest.mark.slow
def test_a_database_that_is_wrong_is_told(local: Callable[..., LocalRun]) -> None:
    run = local(terminal=True, MONGODB_URI="mongodb://app:hunter2@127.0.0.1:9")
    run.wait_said("Not ready")
    plain = run.plain
    verdict = "ERROR MongoDB at mongodb://app:***@127.0.0.1:9 does not answer: 127.0.0.1:9: "
    assert plain.count(verdict + "[Errno 111] Connection refused. Check MONGODB_URI.") == 1
    assert "hunter2" not in plain
    assert "/health" not in plain
    run.press_ctrl_c()
    assert (run.wait(), run.remaining()) == (0, set())
