"""``tox -e serve``: starts MongoDB and Gunicorn, waits for a signal, stops both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import orjson

from portfolio.config import ConfigurationError, Settings
from portfolio.devserver.data_folder import (
    REPLICA_SET,
    DataFolder,
    DataFolderError,
    Holder,
    cannot_use,
    local_environment,
)
from portfolio.devserver.mongod import CancelledError, Mongod, MongodError, find_mongod
from portfolio.devserver.processes import (
    PortError,
    check_port,
    die_with_parent,
    exists,
    free_port,
)
from portfolio.redaction import redact_uri

_PAUSE_S = 0.05
# If the service is not ready this long after its first response, the user is told why.
_EXPLAIN_AFTER_S = 3.0
# From then on it is probed less often: each probe may be a line in the log.
_SELDOM_S = 2.0
# Requests in flight may take this long. Then connections are cut, and processes killed.
_GRACEFUL_TIMEOUT_S = 3
_STOP_TIMEOUT_S = 8.0

_WELCOME = """
The Portfolio Service is ready. Open

    http://localhost:{port}/docs                 to try the API
    http://localhost:{port}/status               to see it at work
    http://localhost:{port}/api/v2/portfolios    what it holds

Create a portfolio:

    curl -s http://localhost:{port}/api/v1/portfolios \\
         -H 'Content-Type: application/json' -d '{{"name": "My first portfolio"}}'

Ctrl-C ends it.
"""


class _Signals:
    """Sets a flag for signals that stop a run; an exception could interrupt the clean-up."""

    def __init__(self) -> None:
        self.stop = False

    def install(self) -> None:
        """Take over SIGINT, SIGTERM and SIGHUP.

        A shell starts background jobs with SIGINT ignored; it is handled nevertheless.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.stop = True


def main() -> int:
    """Serve until a signal arrives.

    Returns:
        the exit code: 0 if a signal stopped the run, 1 if something failed.
    """
    signals = _Signals()
    signals.install()
    if "TOX_ENV_NAME" in os.environ:
        die_with_parent()  # a killed tox can't forward its signal
    try:
        settings = Settings.from_environment()
        with _data_folder(settings) as folder:
            check_port(settings.port)
            with _local_mongod(folder, signals) if folder else nullcontext() as mongod:
                return _serve(Settings.from_environment(), mongod, signals)
    except CancelledError:
        return 0
    except (ConfigurationError, DataFolderError, MongodError, PortError) as error:
        return _fail(str(error))


@contextmanager
def _data_folder(settings: Settings) -> Iterator[DataFolder | None]:
    """Choose the MongoDB, and lock the folder of a local one.

    Yields:
        the folder, or None if no MongoDB is to be started.
    """
    if os.environ.get("MONGODB_URI", "").strip():
        _say(f"MongoDB: {redact_uri(settings.mongodb_uri)}, from MONGODB_URI")
        yield None
        return
    if find_mongod() is None:
        _say(
            "MongoDB: none found on PATH, so mongomock stands in: one worker, data in memory, gone "
            "at the end; no transactions. Install MongoDB or set MONGODB_URI for the real thing."
        )
        os.environ |= {"MONGODB_URI": "mongomock://localhost", "WEB_CONCURRENCY": "1"}
        yield None
        return
    folder = DataFolder()
    folder.acquire(Holder(os.getpid(), settings.port), exists)
    try:
        yield folder
    finally:
        folder.release()


@contextmanager
def _local_mongod(folder: DataFolder, signals: _Signals) -> Iterator[Mongod]:
    """Run a MongoDB with its data in ``folder``, and put its URI into the environment."""
    mongod = Mongod(
        folder.mongodb,
        replica_set=REPLICA_SET,
        port=_choose_port(folder),
        pass_fds=(folder.lock_fd,),
        is_cancelled=lambda: signals.stop,
    )
    _say(f"MongoDB: mongod on port {mongod.port}, data in {folder.mongodb}")
    try:
        mongod.start()
        mongod.initiate()
        for name, value in local_environment(folder).items():
            if not os.environ.get(name, "").strip():
                os.environ[name] = value
        yield mongod
    finally:
        mongod.stop()


def _choose_port(folder: DataFolder) -> int:
    """Return the port of the last run if it is free, so that clients find MongoDB again."""
    port = folder.read_port()
    if port is not None:
        with suppress(PortError):
            check_port(port)
            return port
    port = free_port()
    folder.write_port(port)
    return port


def _serve(settings: Settings, mongod: Mongod | None, signals: _Signals) -> int:
    gunicorn = _start_gunicorn(settings.port)
    try:
        watch = _Watch(settings, mongod)
        while not signals.stop:
            watch.check()
            if gunicorn.poll() is not None:
                return _fail(f"Gunicorn ended with code {gunicorn.returncode}.")
            time.sleep(_PAUSE_S)
        _say("Stopping.")
        return _stop(gunicorn)
    finally:
        _stop(gunicorn)


def _start_gunicorn(port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"]
    command += ["--graceful-timeout", str(_GRACEFUL_TIMEOUT_S)]
    # No load balancer needs time to notice the end.
    os.environ.setdefault("DRAIN_SECONDS", "0")
    os.environ.setdefault("LOG_FORMAT", "auto")
    if not any(name.startswith("OTEL_EXPORTER_") for name in os.environ):
        os.environ.setdefault("OTEL_SDK_DISABLED", "true")  # there is no collector
    try:
        # Its own session: Ctrl-C reaches the launcher only, which stops everything in order.
        return subprocess.Popen(command, start_new_session=True, preexec_fn=die_with_parent)
    except OSError as error:
        raise MongodError(cannot_use(Path(command[0]), error)) from error


def _stop(gunicorn: subprocess.Popen[bytes]) -> int:
    """End Gunicorn and all of its workers; return its exit code."""
    if gunicorn.poll() is None:
        gunicorn.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            gunicorn.wait(_STOP_TIMEOUT_S)
    # Its process group contains workers that have outlived it.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(gunicorn.pid, signal.SIGKILL)
    return gunicorn.wait()


class _Watch:
    """Reports once that the service is ready or why it is not; detects the end of MongoDB."""

    def __init__(self, settings: Settings, mongod: Mongod | None) -> None:
        self._settings = settings
        self._mongod = mongod
        self._first_answer: float | None = None
        self._next_probe = 0.0
        self._explained = False
        self._ready = False

    def check(self) -> None:
        """Check both processes and report changes.

        Raises:
            MongodError: the local MongoDB has ended.
        """
        if self._mongod is not None:
            self._mongod.check()
        now = time.monotonic()
        if self._ready or now < self._next_probe:
            return
        health = self._ask_health()
        if health is None:
            self._next_probe = now + _PAUSE_S
            return
        self._first_answer = self._first_answer or now
        waited = now - self._first_answer > _EXPLAIN_AFTER_S
        # Workers that can't see each other, which they log, do not delay readiness for ever.
        complete = len(health["workers"]) >= self._settings.web_concurrency or waited
        self._ready = health["status"] == "healthy" and complete
        if self._ready:
            _say(_WELCOME.format(port=self._settings.port))
        elif waited and not self._explained:
            _say("Not ready: API calls get 503 until MongoDB answers. Ctrl-C ends it.")
            self._explained = True
        self._next_probe = now + (_SELDOM_S if waited else 2 * _PAUSE_S)

    def _ask_health(self) -> dict[str, Any] | None:
        """Return the health report; None if the service does not respond yet."""
        url = f"http://127.0.0.1:{self._settings.port}/health/detailed"
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                body = response.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        except OSError:
            return None
        try:
            found = orjson.loads(body)
        except ValueError:
            return None
        return found if isinstance(found, dict) and "workers" in found else None


def _say(text: str) -> None:
    with suppress(OSError):  # the terminal has been closed
        print(text, flush=True)  # noqa: T201


def _fail(text: str) -> int:
    with suppress(OSError):
        print(f"Error: {text}", file=sys.stderr, flush=True)  # noqa: T201
    return 1
