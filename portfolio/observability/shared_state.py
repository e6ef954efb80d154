"""What the workers of one instance share: the state of each, and a control file that all read.

Each worker has its own file in a shared folder. All files are replaced atomically: no locks, and
readers see the old content or the new. If the folder cannot be written, workers lack only the state
of the others, and retry.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from portfolio.config import Settings
from portfolio.observability.logging import LogLevelController

log = logging.getLogger(__name__)

State = dict[str, Any]

# Commands wait five seconds for every worker. In a pod each turn costs about as much as a request.
_INTERVAL_S = 2.0
# Gunicorn kills a worker that hangs after 60 s.
_FORGET_AFTER_S = 90.0
# The file of a worker, or the draft of one that died while writing.
_FILE = re.compile(r"worker-([0-9]{1,7})\.json(?:\.[0-9]+)?")


def replace_file(path: Path, content: bytes, *, draft: str = "") -> None:
    """Write ``content`` atomically to ``path``, readable by this user only.

    The file that is written first has the suffix ``draft``, by default the process id.

    Raises:
        OSError: it cannot be written; the previous content stays.
    """
    fresh = path.with_name(f"{path.name}.{draft or os.getpid()}")
    try:
        # O_NOFOLLOW: do not write through a link that somebody else has placed there.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(fresh, flags, 0o600), "wb") as file:
            file.write(content)
        fresh.replace(path)
    except OSError:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


class SharedState:
    """What the workers of one instance share, in ``folder``, which may not exist yet.

    Methods that write raise OSError if they cannot; the content is then as before.

    Attributes:
        is_ours: whether the folder may be trusted; ``open`` finds out.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_ours = False
        self._control = folder / "control.json"

    def open(self) -> None:
        """Create the folder, accessible to this user only, if it is missing.

        Raise PermissionError if it belongs to another user, who could control the workers.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.is_ours = os.geteuid() in (0, self.folder.stat().st_uid)
        if not self.is_ours:
            raise PermissionError(f"{self.folder} belongs to another user")

    def publish(self, state: State) -> None:
        """Publish ``state``, which must be serializable as JSON, as the state of this process."""
        replace_file(self.folder / f"worker-{os.getpid()}.json", orjson.dumps(state))

    def remove(self) -> None:
        """Remove the state of this process."""
        with suppress(OSError):
            (self.folder / f"worker-{os.getpid()}.json").unlink(missing_ok=True)

    def read(self) -> dict[int, State]:
        """Return the state of each live process by process id; remove the files of dead ones."""
        found = {}
        for path in self.folder.glob("worker-*"):
            name = _FILE.fullmatch(path.name)
            if name is None:
                continue
            with suppress(OSError):
                if not _is_live(int(name[1]), path):
                    path.unlink()
                elif path.suffix == ".json" and (state := _read(path)):
                    found[int(name[1])] = state
        return found

    def others(self) -> list[State]:
        """Return the state of each other worker, up to two seconds old."""
        if not self.is_ours:
            return []
        return [state for pid, state in self.read().items() if pid != os.getpid()]

    def control(self) -> State:
        """Return the content of the control file; empty if there is none."""
        return _read(self._control)

    def set_log_level(self, level: str, seconds: float) -> int:
        """Set the log level for ``seconds``; return the new revision."""
        return self._write(log_level={"level": level, "until": time.time() + seconds})

    def reset_breaker(self, name: str) -> int:
        """Close a circuit breaker in all workers; return the new revision."""
        return self._write(resets={**self.control().get("resets", {}), name: time.time()})

    def _write(self, **changes: Any) -> int:
        self.open()
        known = self.control()
        revision = int(known.get("revision", 0)) + 1
        replace_file(self._control, orjson.dumps({**known, **changes, "revision": revision}))
        return revision


class WorkerCoordinator:
    """Shares one worker's state with the others and applies the control file."""

    def __init__(self, settings: Settings, log_level_controller: LogLevelController) -> None:
        # Local instances differ by port.
        self.shared = SharedState(Path(settings.runtime_dir) / str(settings.port))
        self._log_level_controller = log_level_controller
        self._level: str | None = None
        self._resets: dict[str, float] = {}
        self._failed = False
        self._stopped = threading.Event()

    def start(self, describe: Callable[[], State], reset_breaker: Callable[[str], None]) -> None:
        """Start publishing this worker's state and reading the control file, every two seconds.

        ``describe`` returns the state, serializable as JSON, and ``reset_breaker`` closes the
        circuit breaker of a name, if there is one.
        """
        self._resets = self.shared.control().get("resets", {})  # of workers before this one
        self.shared.read()  # removes the files of workers that were killed

        def watch() -> None:
            while not self._stopped.is_set():
                try:
                    self.shared.open()
                    revision = self._apply(reset_breaker)
                    self.shared.publish({"applied_revision": revision, **describe()})
                    self._report(None)
                except Exception as error:  # must not end the thread
                    self._report(error)
                self._stopped.wait(_INTERVAL_S)
            # Only here can it not be written again.
            self.shared.remove()

        threading.Thread(target=watch, name="coordinator", daemon=True).start()

    def unregister(self) -> None:
        """Stop, and remove this worker's state."""
        self._stopped.set()
        self.shared.remove()

    def _report(self, error: Exception | None) -> None:
        """Log a failure once, and the recovery from it."""
        if error and not self._failed:
            log.warning("worker state not shared", extra={"error": str(error)})
        if self._failed and not error:
            log.info("worker state shared again")
        self._failed = error is not None

    def _apply(self, reset_breaker: Callable[[str], None]) -> int:
        """Do what the control file asks for and was not done yet; return its revision."""
        content = self.shared.control()
        resets = content.get("resets", {})
        for name, requested_at in resets.items():
            # Not by order: the clock may have been set back.
            if requested_at != self._resets.get(name):
                reset_breaker(name)
        self._resets = resets
        change = content.get("log_level", {"until": 0})
        level = change["level"] if time.time() < change["until"] else None
        if level != self._level:
            self._level = level
            self._log_level_controller.set_level(level)
            message = "log level changed" if level else "log level changed back"
            log.warning(message, extra={"to": self._log_level_controller.level})
        return int(content.get("revision", 0))


def _read(path: Path) -> State:
    """Return the object in a file; empty if there is none."""
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_live(pid: int, path: Path) -> bool:
    if time.time() - path.stat().st_mtime > _FORGET_AFTER_S:
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
