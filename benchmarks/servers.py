"""The contestants: the service as production runs it, and the baselines, each on a free port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from portfolio.devserver.processes import free_port

ROOT = Path(__file__).parent.parent
WORKERS = 2
_TIMEOUT_S = 60.0
# Each probe costs the pod a millisecond of its CPU while it starts.
_POLL_S = 0.1

PRODUCTION = {"PORTFOLIO_SERVICE_ENV": "production"}
# What the production profile leaves off by default switched on. Sampling is the profile's own.
EVERY_FEATURE = {
    **PRODUCTION,
    "ENABLE_TRACING": "true",
    "ENABLE_DATABASE_TRACING": "true",
    "ENABLE_REQUEST_LOGGING": "true",
}


class ServerError(RuntimeError):
    """A server did not come up; the message ends with its log."""


class Server:
    """One server process with its workers.

    Args:
        title: its name in reports.
        command: what starts it; without a shell.
        environment: variables beside PATH, PORT and WEB_CONCURRENCY; none is inherited.
        log: where its output goes.
        ready: the path that answers 200 when it can be measured.
        port: where it listens.
    """

    def __init__(
        self,
        title: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        ready: str,
        port: int,
    ) -> None:
        self.title = title
        self.port = port
        self._command = list(command)
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PORT": str(port),
            "WEB_CONCURRENCY": str(WORKERS),
            **environment,
        }
        self._log = log
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, prefix: Sequence[str] = ()) -> float:
        """Start it, wait until it is ready, and return the seconds that took.

        Args:
            prefix: a program that starts the server in its own place, with its arguments.

        Raises:
            ServerError: it ended, or was not ready within a minute.
        """
        begun = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*prefix, *self._command],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() - begun > _TIMEOUT_S:
                self.stop()
                raise ServerError(f"{self.title}: {self._log.read_text()[-2000:]}")
            time.sleep(_POLL_S)
        return time.monotonic() - begun

    def stop(self) -> None:
        """End it in order, or at once where it does not obey."""
        if self._process is None or self._process.poll() is not None:
            return
        family = self.processes()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_TIMEOUT_S / 2)
        except subprocess.TimeoutExpired:
            for process in family:
                if process.is_running():
                    process.kill()
            self._process.wait()

    def is_ready(self) -> bool:
        """Whether it can be measured now."""
        try:
            with urllib.request.urlopen(self.url + self._ready, timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def processes(self) -> list[psutil.Process]:
        """Return its processes: the one that was started and all below."""
        assert self._process is not None
        root = psutil.Process(self._process.pid)
        return [root, *root.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Return the CPU seconds, user and system, of all its processes until now."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes())


def service(
    mongodb_uri: str, database: str, collector: str, folder: Path, runtime: Path, **more: str
) -> Server:
    """Return the service with the production profile.

    Args:
        mongodb_uri: its MongoDB.
        database: the name of its database.
        collector: the base URL that takes its telemetry.
        folder: where its log goes.
        runtime: where its run-time files go.
        more: variables beside, or instead.
    """
    port = free_port()
    environment = {
        **PRODUCTION,
        "MONGODB_URI": mongodb_uri,
        "MONGODB_DB": database,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "PORTFOLIO_RUNTIME_DIR": str(runtime / f"run-{port}"),
        **more,
    }
    return Server(
        "service",
        [sys.executable, "-m", "gunicorn"],
        environment=environment,
        log=folder / f"service-{port}.log",
        ready="/health/ready",
        port=port,
    )


def raw_wsgi(mongodb_uri: str, database: str, folder: Path) -> Server:
    """Return raw WSGI and PyMongo under the service's Gunicorn settings."""
    command = ["gunicorn", "-c", "benchmarks/baselines/raw_conf.py"]
    return _baseline("raw WSGI", command, free_port(), mongodb_uri, database, folder)


def lean_fastapi(mongodb_uri: str, database: str, folder: Path) -> Server:
    """Return lean FastAPI and PyMongo's async client under uvicorn."""
    port = free_port()
    command = ["uvicorn", "benchmarks.baselines.lean:app"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(WORKERS)]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    command += ["--log-level", "warning", "--timeout-keep-alive", "75"]
    return _baseline("lean FastAPI", command, port, mongodb_uri, database, folder)


def _baseline(
    title: str, module: list[str], port: int, mongodb_uri: str, database: str, folder: Path
) -> Server:
    return Server(
        title,
        [sys.executable, "-m", *module],
        environment={"MONGODB_URI": mongodb_uri, "MONGODB_DB": database},
        log=folder / f"{title}-{port}.log",
        ready="/health/live",
        port=port,
    )
