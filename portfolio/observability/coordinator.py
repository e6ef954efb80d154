"""Coordinates the workers of one instance: shared state, and a control file that all read."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from portfolio.config import Settings
from portfolio.observability.logging import LogLevelController
from portfolio.observability.shared_state import SharedState, State, prepare_folder, replace_file

log = logging.getLogger(__name__)

# Commands wait five seconds for every worker.
_INTERVAL_S = 1.0


class ControlFile:
    """Commands to all workers, in one small file in ``folder`` that is replaced atomically."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "control.json"

    def read(self) -> dict[str, Any]:
        """Return the current content; empty if there is none."""
        try:
            content = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def set_log_level(self, level: str, seconds: float) -> int:
        """Set the log level for ``seconds``; return the new revision.

        Raises:
            OSError: the file cannot be written.
        """
        return self._write(log_level={"level": level, "until": time.time() + seconds})

    def reset_breaker(self, name: str) -> int:
        """Close a circuit breaker in all workers; return the new revision.

        Raises:
            OSError: the file cannot be written.
        """
        return self._write(resets={**self.read().get("resets", {}), name: time.time()})

    def _write(self, **changes: Any) -> int:
        prepare_folder(self._path.parent)
        known = self.read()
        revision = int(known.get("revision", 0)) + 1
        content = json.dumps({**known, **changes, "revision": revision})
        replace_file(self._path, content.encode())
        return revision


class WorkerCoordinator:
    """Shares one worker's state with the others and applies the control file.

    While the shared folder cannot be used, a worker knows only its own state, and retries.
    """

    def __init__(self, settings: Settings, log_level_controller: LogLevelController) -> None:
        # Local instances differ by port.
        self.folder = Path(settings.runtime_dir) / str(settings.port)
        self.control = ControlFile(self.folder)
        self._shared = SharedState(self.folder)
        self._log_level_controller = log_level_controller
        self._level: str | None = None
        self._begun = time.time()
        self._resets: dict[str, float] = {}
        self._usable = False
        self._failed = False
        self._stopped = threading.Event()

    def open(self) -> None:
        """Open the shared folder, to read the workers' state.

        Raises:
            OSError: the folder cannot be used.
        """
        prepare_folder(self.folder)
        self._usable = True

    def start(self, describe: Callable[[], State], reset_breaker: Callable[[str], None]) -> None:
        """Start publishing this worker's state and reading the control file, once a second.

        Args:
            describe: returns the state of this worker, serializable as JSON.
            reset_breaker: closes the circuit breaker of a name, if there is one.
        """
        self._begun = time.time()
        self._shared.read()  # removes the files of workers that were killed

        def watch() -> None:
            while not self._stopped.is_set():
                try:
                    self.open()
                    revision = self._apply(reset_breaker)
                    self._shared.publish({"applied_revision": revision, **describe()})
                    self._report(None)
                except Exception as error:  # must not end the thread
                    self._report(error)
                self._stopped.wait(_INTERVAL_S)
            # Only here can it not be written again.
            self._shared.remove()

        threading.Thread(target=watch, name="coordinator", daemon=True).start()

    def unregister(self) -> None:
        """Stop, and remove this worker's state."""
        self._stopped.set()
        self._shared.remove()

    def others(self) -> list[State]:
        """Return the state of each other worker, up to a second old."""
        if not self._usable:
            return []
        return [state for pid, state in self._shared.read().items() if pid != os.getpid()]

    def _report(self, error: Exception | None) -> None:
        """Log a failure once, and the recovery from it."""
        if isinstance(error, PermissionError):
            self._usable = False
        if error and not self._failed:
            log.warning("worker state not shared", extra={"error": str(error)})
        if self._failed and not error:
            log.info("worker state shared again")
        self._failed = error is not None

    def _apply(self, reset_breaker: Callable[[str], None]) -> int:
        """Do what the control file asks for and was not done yet; return its revision."""
        content = self.control.read()
        resets = content.get("resets", {})
        for name, requested_at in resets.items():
            if requested_at > self._resets.get(name, self._begun):
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
