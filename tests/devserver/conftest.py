"""Local runs for tests: the launcher in folders of its own, with and without a terminal."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from portfolio.devserver.mongod import Mongod
from portfolio.devserver.processes import free_port
from tests.support.gunicorn import ROOT, wait_until


class LocalRun:
    """A run of the launcher in a folder.

    Args:
        folder: becomes a checkout by links.
        command: what is run in it.
        terminal: whether it runs in a terminal of its own.
        environment: variables beside those that it needs.
    """

    def __init__(
        self,
        folder: Path,
        command: tuple[str, ...] = (sys.executable, "-m", "portfolio.devserver"),
        *,
        terminal: bool = False,
        **environment: str,
    ) -> None:
        for name in ("portfolio", "wsgi.py", "gunicorn.conf.py"):
            link = folder / name
            if not link.exists():
                link.symlink_to(ROOT / name)
        self.folder = folder
        self.port = int(environment.get("PORT") or free_port())
        variables = {"PATH": os.environ["PATH"], "PORT": str(self.port), "WEB_CONCURRENCY": "1"}
        variables["TERM"] = "xterm"
        variables["PORTFOLIO_RUNTIME_DIR"] = str(folder / "run")
        self.environment = variables | environment
        self._output = b""
        self._seen: set[psutil.Process] = set()
        if terminal:
            # In a new session, so that its pseudo-terminal becomes the controlling one.
            command = ("setsid", "--ctty", *command)
            self._terminal, child_end = os.openpty()
        else:
            self._terminal, child_end = os.pipe()
        self.process = psutil.Popen(
            command,
            cwd=folder,
            env=self.environment,
            stdin=child_end if terminal else subprocess.DEVNULL,
            stdout=child_end,
            stderr=child_end,
        )
        os.close(child_end)
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # the other end of a terminal has gone
            while not self._closing.is_set():
                # Not blocked in a read, which would keep a terminal open that is closed.
                if not select.select([self._terminal], [], [], 0.05)[0]:
                    continue
                data = os.read(self._terminal, 65536)
                if not data:
                    return
                self._output += data

    @property
    def said(self) -> str:
        """What it has printed."""
        return self._output.decode(errors="replace").replace("\r", "")

    @property
    def plain(self) -> str:
        """What it has printed, without colors."""
        return re.sub(r"\x1b\[\d*m", "", self.said)

    def url(self, path: str) -> str:
        return f"http://localhost:{self.port}{path}"

    def family(self) -> set[psutil.Process]:
        """Return every process of it that has been seen so far."""
        with suppress(psutil.Error):
            self._seen |= {self.process, *self.process.children(recursive=True)}
        return self._seen

    def wait_ready(self) -> None:
        """Wait until it says that it is ready."""

        def is_ready() -> bool:
            assert self.process.is_running(), self.said
            assert self.process.status() != psutil.STATUS_ZOMBIE, self.said
            return "is ready" in self.said

        wait_until(is_ready, "the local run is ready", timeout_s=90)
        self.family()

    def wait_said(self, text: str) -> None:
        wait_until(lambda: text in self.said, f"{text!r} is said: {self.said}")

    def press_ctrl_c(self) -> None:
        """Type Ctrl-C, which signals every process in the terminal's foreground."""
        os.write(self._terminal, b"\x03")

    def close_terminal(self) -> None:
        """Close the terminal's window."""
        self._closing.set()
        self._reader.join()
        os.close(self._terminal)

    def wait(self, timeout_s: float = 60) -> int:
        """Wait for its end and return the exit code."""
        self.family()
        code = self.process.wait(timeout_s)
        assert code is not None
        return int(code)

    def remaining(self) -> set[psutil.Process]:
        """Return those of its processes that don't end in time."""
        _, alive = psutil.wait_procs(list(self._seen), timeout=10)
        return set(alive)

    def end(self, number: signal.Signals) -> tuple[int, set[psutil.Process]]:
        """Send a signal; return the exit code and those of its processes that remain."""
        self.family()
        self.process.send_signal(number)
        return self.wait(), self.remaining()

    def cleanup(self) -> None:
        """End whatever is left of it."""
        with suppress(psutil.Error, psutil.TimeoutExpired):
            self.end(signal.SIGTERM)
        for process in self._seen:
            with suppress(psutil.Error):
                process.kill()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Callable[..., LocalRun]]:
    """Start local runs, in one folder unless told otherwise; they end with the test."""
    runs: list[LocalRun] = []

    def start(*arguments: object, folder: Path = tmp_path, **options: object) -> LocalRun:
        folder.mkdir(exist_ok=True)
        runs.append(LocalRun(folder, *arguments, **options))  # type: ignore[arg-type]
        return runs[-1]

    yield start
    for run in runs:
        run.cleanup()


@pytest.fixture(scope="module")
def used_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a MongoDB that has been used, and stopped."""
    mongod = Mongod(tmp_path_factory.mktemp("used"), replica_set="local")
    mongod.start()
    mongod.initiate()
    mongod.stop()
    return mongod.folder


@pytest.fixture
def data(used_data: Path, tmp_path: Path) -> Path:
    """A copy of it, where a local run looks for its data."""
    folder = tmp_path / ".data" / "mongodb"
    shutil.copytree(used_data, folder)
    (folder / "mongod.log").unlink()
    return folder
