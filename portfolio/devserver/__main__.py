"""``python -m portfolio.devserver``: serve on this machine, with a MongoDB of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType

from portfolio.config import ConfigurationError, Settings, mask
from portfolio.devserver.mongod import Mongod, MongodError, find_mongod, free_port

_DATA = Path(".data") / "mongodb"
_READY_TIMEOUT_S = 60.0

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
    """Serve until a signal comes; return the exit code."""
    try:
        settings = Settings.from_environment()
    except ConfigurationError as error:
        return _complain(str(error))
    if _taken(settings.port):
        return _complain(f"Port {settings.port} is in use: set PORT to another one.")
    # A shell starts what runs in its background with SIGINT ignored: both are asked for.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        mongod = _start_database()
    except MongodError as error:
        return _complain(
            f"{error}\nWhere libraries are missing, install them (Debian, Ubuntu: libcurl4); or "
            "set MONGODB_URI to a MongoDB of your own."
        )
    try:
        return _serve(settings.port)
    finally:
        if mongod is not None:
            mongod.stop()


def _start_database() -> Mongod | None:
    if os.environ.get("MONGODB_URI"):
        _say(f"MongoDB: {mask(os.environ['MONGODB_URI'])}, from MONGODB_URI")
        return None
    binary = find_mongod()
    if binary is None:
        _say(
            "MongoDB: none found on PATH, so mongomock stands in: one worker, data in memory, gone "
            "at the end; no transactions. Install MongoDB or set MONGODB_URI for the real thing."
        )
        os.environ |= {"MONGODB_URI": "mongomock://localhost", "WEB_CONCURRENCY": "1"}
        return None
    mongod = Mongod(_DATA, replica_set="local", port=_previous_port(), binary=binary)
    _say(f"MongoDB: {binary.name} on port {mongod.port}, data in {_DATA}")
    mongod.start()
    try:
        mongod.initiate()
    except BaseException:
        mongod.stop()
        raise
    os.environ["MONGODB_URI"] = mongod.uri
    return mongod


def _previous_port() -> int | None:
    """Return the port of the last run: a replica set knows its members by their ports."""
    note = _DATA / "port"
    if note.exists():
        return int(note.read_text())
    _DATA.mkdir(parents=True, exist_ok=True)
    port = free_port()
    note.write_text(str(port))
    return port


def _serve(port: int) -> int:
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"]
    os.environ.setdefault("DRAIN_SECONDS", "1")
    if not any(name.startswith("OTEL_EXPORTER_") for name in os.environ):
        os.environ.setdefault("OTEL_SDK_DISABLED", "true")  # nobody listens
    gunicorn = subprocess.Popen(command, start_new_session=True)
    try:
        if _await_ready(port, gunicorn):
            _say(_WELCOME.format(port=port))
        return gunicorn.wait()
    except KeyboardInterrupt:
        _say("Stopping.")
        gunicorn.send_signal(signal.SIGTERM)
        return gunicorn.wait()
    finally:
        if gunicorn.poll() is None:
            gunicorn.kill()


def _await_ready(port: int, gunicorn: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while gunicorn.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    return False


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def _complain(text: str) -> int:
    print(text, file=sys.stderr)  # noqa: T201
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
