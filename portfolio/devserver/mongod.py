"""A ``mongod`` process for a local run, tests and benchmarks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from portfolio.devserver.processes import die_with_parent, free_port

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_CRASH_TIMEOUT_S = 2.0
_PAUSE_S = 0.05
_LOG_TAIL_BYTES = 256 * 1024
_ALREADY_INITIALIZED = 23
# An exit code.
_NEEDS_OTHER_VERSION = 62
_PARAMETERS = {
    "diagnosticDataCollectionEnabled": "false",
    # A primary waits this long for clients before it stops; 15 s by default.
    "shutdownTimeoutMillisForSignaledShutdown": "100",
    # Transactions of a killed worker must not lock documents for a minute.
    "transactionLifetimeLimitSeconds": "15",
}


class MongodError(RuntimeError):
    """``mongod`` did not start or has ended; the message gives the reason if it is known."""


def find_mongod() -> Path | None:
    """Return the ``mongod`` on PATH, else the one in the development requirements."""
    in_wheel = os.pathsep.join(f"{folder}/fiftyone/db/bin" for folder in sys.path)
    found = shutil.which("mongod") or shutil.which("mongod", path=in_wheel)
    return Path(found) if found else None


class Mongod:
    """One ``mongod`` on the loopback interface.

    Args:
        folder: for its data and its log; created if it is missing, kept afterwards.
        replica_set: the name of its replica set; None for a standalone.
        port: the port to listen on; a free one by default.
        parameters: server parameters, as for ``--setParameter``.
        binary: the program; found by default.
        arguments: further command line arguments.
    """

    def __init__(
        self,
        folder: Path,
        *,
        replica_set: str | None = None,
        port: int | None = None,
        parameters: dict[str, str] | None = None,
        binary: Path | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.replica_set = replica_set
        self.port = port or free_port()
        self.log = folder / "mongod.log"
        self._parameters = _PARAMETERS | (parameters or {})
        self._binary = binary or find_mongod()
        self._arguments = arguments
        self._log_start = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def uri(self) -> str:
        """The URI for clients."""
        suffix = f"/?replicaSet={self.replica_set}" if self.replica_set else ""
        return f"mongodb://{self.address}{suffix}"

    def start(self) -> None:
        """Start the process and wait until it answers.

        Raises:
            MongodError: there is no binary, it ends, or it does not answer within a minute.
        """
        if self._binary is None:
            raise MongodError("no mongod was found")
        command = [str(self._binary), "--dbpath", str(self.folder), "--port", str(self.port)]
        command += ["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.5"]
        if self.replica_set:
            command += ["--replSet", self.replica_set]
        for name, value in self._parameters.items():
            command += ["--setParameter", f"{name}={value}"]
        command += self._arguments
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # A file, not a pipe: a full pipe that nobody reads would block the child.
            with self.log.open("ab") as log:
                self._log_start = log.tell()
                self.process = subprocess.Popen(
                    command,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    # Ctrl-C must reach the caller only, which then decides.
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                )
        except OSError as error:
            raise MongodError(f"{error.filename or command[0]}: {error.strerror}") from error
        self._await(self._answers)

    def initiate(self, *others: Mongod) -> None:
        """Initiate a replica set of this member and ``others`` if needed, and await a primary.

        A set of one member is reconfigured for another port; a larger one is left unchanged.

        Raises:
            MongodError: it ends, or there is no primary within a minute.
        """
        members = [{"_id": i, "host": each.address} for i, each in enumerate((self, *others))]
        try:
            with self.client() as client:
                try:
                    client.admin.command(
                        "replSetInitiate", {"_id": self.replica_set, "members": members}
                    )
                except OperationFailure as error:
                    if error.code != _ALREADY_INITIALIZED:
                        raise
                    self._follow_port(client)
        except PyMongoError as error:
            self._await_end()
            self.check()
            raise MongodError(f"the replica set can't be initiated: {error}") from error
        self._await(self._has_primary)

    def _follow_port(self, client: MongoClient[dict[str, Any]]) -> None:
        config = client.admin.command("replSetGetConfig")["config"]
        if len(config["members"]) > 1 or config["members"][0]["host"] == self.address:
            return
        config["members"][0]["host"] = self.address
        config["version"] += 1
        client.admin.command("replSetReconfig", config, force=True)

    def client(self, login: str = "") -> MongoClient[dict[str, Any]]:
        """Return a client connected to this process only.

        Args:
            login: user and password as in a URI, up to the ``@``.
        """
        return MongoClient(
            f"mongodb://{login}{self.address}", directConnection=True, serverSelectionTimeoutMS=1000
        )

    def stop(self) -> None:
        """Stop the process and wait for it."""
        self.signal(signal.SIGTERM)
        self._wait()

    def kill(self) -> None:
        """Kill the process, as a crash would."""
        self.signal(signal.SIGKILL)
        self._wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def check(self) -> None:
        """Check that the process runs.

        Raises:
            MongodError: it has ended; the message gives the reason.
        """
        if self.process is not None and self.process.poll() is not None:
            code, cause, hint = self.process.returncode, "", ""
            # Of a signal to end, the log knows no reason: an error in it is another matter.
            if code not in (0, -signal.SIGKILL):
                cause = _first_error(self._read_log()).rstrip(".")
            if code == _NEEDS_OTHER_VERSION or "unsupported WiredTiger file version" in cause:
                hint = (
                    f" {self.folder} is of another version of MongoDB: put its mongod on PATH, or "
                    "move the folder away to begin anew."
                )
            raise MongodError(f"mongod ended with code {code}{cause}.{hint} Its log: {self.log}")

    def _await_end(self) -> None:
        """Wait a moment for a process that has closed its connections to end."""
        if self.process is not None:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_CRASH_TIMEOUT_S)

    def _wait(self) -> None:
        if self.process is not None:
            try:
                self.process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _await(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                self.stop()
                raise MongodError(f"mongod did not answer in time{_first_error(self._read_log())}")
            time.sleep(_PAUSE_S)

    def _answers(self) -> bool:
        """Return whether this process listens, by its log: another one may listen on its port."""
        return "aiting for connections" in self._read_log()

    def _has_primary(self) -> bool:
        try:
            # Found by the driver, since a member that was just elected is not writable yet.
            with MongoClient[dict[str, Any]](self.uri, serverSelectionTimeoutMS=1000) as client:
                client.admin.command("ping")
                return True
        except PyMongoError:
            return False

    def _read_log(self) -> str:
        """Return the log since the start, or its end if that is too long."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(self._log_start, file.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
                return file.read().decode(errors="replace")
        except OSError:
            return ""


def _first_error(text: str) -> str:
    """Return a colon and the first error in the log ``text``, or an empty string.

    Until ``mongod`` runs, what the system prints is an error.
    """
    for line in filter(None, map(str.strip, text.splitlines())):
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError:
            return f": {line}"
        if found["s"] in ("E", "F"):
            return f": {_summarize(found)}"
    return ""


def _summarize(line: dict[str, Any]) -> str:
    """Return the message of a log line, with the cause from its attributes."""
    error, message = (line.get("attr", {}).get(name) for name in ("error", "message"))
    causes = [error.get("errmsg") if isinstance(error, dict) else error]
    if isinstance(message, dict):  # from WiredTiger, after its location in the code
        causes = [str(message.get("msg", "")).split(":", 2)[-1].strip(), message.get("error_str")]
    return ", ".join(filter(None, (" ".join(line["msg"].split()), *causes)))
