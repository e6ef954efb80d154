"""A real Gunicorn for tests: the service as it runs in production, on a free port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests

from portfolio.devserver.processes import free_port

ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 30.0


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = _TIMEOUT_S) -> Any:
    """Return the first true value of ``condition``, or fail naming ``what`` did not come about."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.02)


class Gunicorn:
    """One Gunicorn, started as ``gunicorn`` alone in the repository's root.

    Args:
        folder: where its log and its run-time files go.
        mongodb_uri: its MongoDB.
        environment: variables beside the ones that tests need; none is inherited but PATH.
    """

    def __init__(self, folder: Path, mongodb_uri: str, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.log = folder / "log"
        self._environment = {
            "PATH": os.environ["PATH"],
            "PORT": str(self.port),
            "MONGODB_URI": mongodb_uri,
            "PORTFOLIO_RUNTIME_DIR": str(folder / "run"),
            "OTEL_SDK_DISABLED": "true",
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers, ready or not."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn"],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        wait_until(self._answers, f"gunicorn answers; its log: {self.log}")

    def wait_ready(self) -> None:
        """Wait until it is ready."""
        wait_until(lambda: self.status("/health/ready") == 200, "gunicorn is ready")

    def status(self, path: str) -> int:
        """Return the status of a GET, or 0 where there is no answer."""
        try:
            return requests.get(self.url + path, timeout=10).status_code
        except requests.RequestException:
            return 0

    def flask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a ``flask`` command as in a shell inside its container."""
        return subprocess.run(
            [sys.executable, "-m", "flask", *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )

    def workers(self) -> list[psutil.Process]:
        """Return its worker processes."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children()

    def log_lines(self) -> list[dict[str, Any]]:
        """Return what it has logged, parsed; a line that is no JSON fails the test."""
        # Not splitlines(), which ends a line at characters that JSON may hold.
        return [json.loads(line) for line in self.log.read_bytes().split(b"\n") if line]

    def signal(self, number: signal.Signals) -> None:
        """Send the master a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, timeout_s: float = _TIMEOUT_S) -> int:
        """End it in order and return its exit code."""
        self.signal(signal.SIGTERM)
        assert self.process is not None
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """End it and its workers at once, if it still runs."""
        if self.process is None or self.process.poll() is not None:
            return
        family = [psutil.Process(self.process.pid), *self.workers()]
        for process in family:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"gunicorn ended: {self.log.read_text()[-2000:]}")
        return self.status("/health/live") == 200


@contextmanager
def running(folder: Path, mongodb_uri: str, **environment: str) -> Iterator[Gunicorn]:
    """Run a Gunicorn, which is ready when the block begins and ends with it.

    Args:
        folder: where its log and its run-time files go.
        mongodb_uri: its MongoDB.
        environment: its variables.
    """
    gunicorn = Gunicorn(folder, mongodb_uri, environment)
    try:
        gunicorn.start()
        gunicorn.wait_ready()
        yield gunicorn
    finally:
        gunicorn.kill()
