"""``tox -e serve``: starts MongoDB and Gunicorn, waits for a signal, stops both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from portfolio.config import ConfigurationError, Settings
from portfolio.devserver.data_folder import FOLDER, DataFolderError, lock_folder
from portfolio.devserver.mongod import Mongod, MongodError, find_mongod
from portfolio.devserver.processes import PortError, check_port, die_with_parent
from portfolio.redaction import redact_uri

_PAUSE_S = 0.05
# If the service is not ready this long after its start, the user is told why.
_EXPLAIN_AFTER_S = 6.0
# From then on it is probed less often: each probe may be a line in the log.
_SELDOM_S = 2.0
# Requests in flight may take this long. Then connections are cut, and processes killed.
_GRACEFUL_TIMEOUT_S = 3
_STOP_TIMEOUT_S = 8.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
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


def main() -> int:
    """Serve until a signal arrives, which ends the run with exit code 0.

    Returns:
        1, if something failed.
    """
    for number in _SIGNALS:
        signal.signal(number, _exit)
    if "TOX_ENV_NAME" in os.environ:
        die_with_parent()  # a killed tox can't forward its signal
    try:
        settings = Settings.from_environment()
        check_port(settings.port)
        with _mongodb(settings) as mongod:
            return _serve(settings.port, mongod)
    except (ConfigurationError, DataFolderError, MongodError, PortError) as error:
        return _fail(str(error))


def _exit(_number: int, _frame: FrameType | None) -> None:
    """End the run; no further signal interrupts what stops its processes."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


@contextmanager
def _mongodb(settings: Settings) -> Iterator[Mongod | None]:
    """Choose the MongoDB, and put its URI into the environment.

    Yields:
        a MongoDB that runs inside the context; None if none is to be started.
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
    mongod = Mongod(FOLDER / "mongodb", replica_set="local")
    # The workers' runtime folder depends on the port.
    with lock_folder({"MONGODB_URI": mongod.uri, "PORT": str(settings.port)}):
        _say(f"MongoDB: mongod on port {mongod.port}, data in {mongod.folder}")
        try:
            mongod.start()
            mongod.initiate()
            os.environ["MONGODB_URI"] = mongod.uri
            yield mongod
        finally:
            mongod.stop()


def _serve(port: int, mongod: Mongod | None) -> int:
    """Run Gunicorn; report once that it is ready or why it is not.

    Returns:
        1: Gunicorn has ended.

    Raises:
        MongodError: the local MongoDB has ended.
    """
    gunicorn = _start_gunicorn(port)
    ready = False
    pause_s = _PAUSE_S
    probe_at = time.monotonic()
    explain_at = probe_at + _EXPLAIN_AFTER_S
    try:
        while gunicorn.poll() is None:
            if mongod is not None:
                mongod.check()
            now = time.monotonic()
            if not ready and now >= probe_at:
                ready = _is_ready(port)
                if ready:
                    _say(_WELCOME.format(port=port))
                elif pause_s < _SELDOM_S and now >= explain_at:
                    _say("Not ready: API calls get 503 until MongoDB answers. Ctrl-C ends it.")
                    pause_s = _SELDOM_S
                probe_at = now + pause_s
            time.sleep(_PAUSE_S)
        return _fail(f"Gunicorn ended with code {gunicorn.returncode}.")
    finally:
        _stop(gunicorn)


def _is_ready(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2).close()
    except OSError:  # or the service responds with 503
        return False
    return True


def _start_gunicorn(port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"]
    command += ["--graceful-timeout", str(_GRACEFUL_TIMEOUT_S)]
    # No load balancer needs time to notice the end.
    os.environ.setdefault("DRAIN_SECONDS", "0")
    os.environ.setdefault("LOG_FORMAT", "auto")
    if not any(name.startswith("OTEL_EXPORTER_") for name in os.environ):
        os.environ.setdefault("OTEL_SDK_DISABLED", "true")  # there is no collector
    # Its own session: Ctrl-C reaches the launcher only, which stops everything in order.
    return subprocess.Popen(command, start_new_session=True, preexec_fn=die_with_parent)


def _stop(gunicorn: subprocess.Popen[bytes]) -> None:
    """End Gunicorn and all of its workers."""
    if gunicorn.poll() is None:
        _say("Stopping.")
        gunicorn.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            gunicorn.wait(_STOP_TIMEOUT_S)
    # Its process group contains workers that have outlived it.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(gunicorn.pid, signal.SIGKILL)
    gunicorn.wait()


def _say(text: str) -> None:
    with suppress(OSError):  # the terminal has been closed
        print(text, flush=True)  # noqa: T201


def _fail(text: str) -> int:
    with suppress(OSError):
        print(f"Error: {text}", file=sys.stderr, flush=True)  # noqa: T201
    return 1
