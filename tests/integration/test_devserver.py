"""``python -m portfolio.devserver``: one command that serves on one's own machine."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import requests

from portfolio.devserver.mongod import find_mongod, free_port
from tests.gunicorn import ROOT, wait_until
from tests.integration.calls import V1, one


class LocalRun:
    """A run of the command in a folder of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        for name in ("portfolio", "wsgi.py", "gunicorn.conf.py", "patches.py"):
            link = folder / name
            if not link.exists():
                link.symlink_to(ROOT / name)
        self.port = free_port()
        self.output = folder / "output"
        variables = {"PATH": os.environ["PATH"], "PORT": str(self.port), "WEB_CONCURRENCY": "1"}
        variables["PORTFOLIO_RUNTIME_DIR"] = str(folder / "run")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "portfolio.devserver"],
                cwd=folder,
                env=variables | environment,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )

    @property
    def said(self) -> str:
        """What it has printed."""
        return self.output.read_text()

    def url(self, path: str) -> str:
        return f"http://localhost:{self.port}{path}"

    def wait_ready(self) -> None:
        """Wait until it says that it is ready."""

        def is_ready() -> bool:
            assert self.process.poll() is None, self.said
            return "is ready" in self.said

        wait_until(is_ready, "the local run is ready", timeout_s=60)

    def end(self, number: signal.Signals) -> tuple[int, list[psutil.Process]]:
        """Send a signal; return the exit code and those of its processes that remain."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        code = self.process.wait(30)
        _, remaining = psutil.wait_procs(family, timeout=5)
        return code, remaining


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Callable[..., LocalRun]]:
    """Start local runs in one folder; they end with the test."""
    runs: list[LocalRun] = []

    def start(**environment: str) -> LocalRun:
        runs.append(LocalRun(tmp_path, **environment))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.end(signal.SIGTERM)


@pytest.mark.skipif(find_mongod() is None, reason="no mongod on PATH, and no wheel of it here")
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
    assert first.end(signal.SIGINT) == (0, [])
    assert (tmp_path / ".data").is_dir()

    second = local()
    second.wait_ready()
    found = requests.get(second.url(one(created["portfolioId"])), timeout=10)
    assert found.json() == created
    assert second.end(signal.SIGTERM) == (0, [])


def test_a_port_in_use_is_told(local: Callable[..., LocalRun]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        run = local(PORT=str(taken.getsockname()[1]))
        assert run.process.wait(30) == 1
    assert "set PORT" in run.said


def test_a_value_that_does_not_parse_is_told(local: Callable[..., LocalRun]) -> None:
    run = local(LOG_LEVEL="LOUD")
    assert run.process.wait(30) == 1
    assert "LOG_LEVEL='LOUD'" in run.said
    assert "Traceback" not in run.said
