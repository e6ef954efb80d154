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
from portfolio.observability.shared_state import (
    SharedState,
    State,
    prepare_folder,
    replace_file,
)

log = logging.getLogger(__name__)

# Changes must reach every worker within 1 s.
_INTERVAL_S = 0.5


def instance_folder(settings: Settings) -> Path:
    """Return the folder that the workers of one instance share; local instances differ by port."""
    return Path(settings.runtime_dir) / str(settings.port)


class ControlFile:
    """Commands to all workers, in one small file that is replaced atomically.

    Args:
        folder: the instance's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "control.json"
        self._seen: tuple[int, int] | None = None

    def read(self) -> dict[str, Any]:
        """Return the current content; empty if there is none."""
        try:
            content = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def changed(self) -> bool:
        """Return whether the file has changed since the last call."""
        try:
            status = self._path.stat()
        except OSError:
            return False
        seen, self._seen = self._seen, (status.st_ino, status.st_mtime_ns)
        return seen != self._seen

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
        resets = self.read().get("resets", {})
        return self._write(resets={**resets, name: time.time()})

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

    Args:
        settings: where the shared folder is.
        log_level_controller: changed by the control file.
    """

    def __init__(self, settings: Settings, log_level_controller: LogLevelController) -> None:
        self.folder = instance_folder(settings)
        self.control = ControlFile(self.folder)
        self._shared = SharedState(self.folder)
        self._log_level_controller = log_level_controller
        self._begun = time.time()
        self._applied_revision = 0
        self._resets: dict[str, float] = {}
        self._level_until = 0.0
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
        """Start publishing this worker's state and reading the control file, twice a second.

        Args:
            describe: returns the state of this worker, serializable as JSON.
            reset_breaker: closes the circuit breaker of a name, if there is one.
        """
        self._begun = time.time()
        # Removes the files of workers that were killed.
        self._shared.read()

        def watch() -> None:
            while not self._stopped.is_set():
                try:
                    self.open()
                    self._apply(reset_breaker)
                    self._shared.publish({"applied_revision": self._applied_revision, **describe()})
                    self._report_recovery()
                except Exception as error:  # must not end the thread
                    self._report_failure(error)
                self._stopped.wait(_INTERVAL_S)
            # Only here can it not be written again.
            self._shared.remove()

        threading.Thread(target=watch, name="coordinator", daemon=True).start()

    def unregister(self) -> None:
        """Stop, and remove this worker's state."""
        self._stopped.set()
        self._shared.remove()

    def others(self) -> list[State]:
        """Return the state of each other worker, up to half a second old."""
        if not self._usable:
            return []
        states = self._shared.read()
        return [state for pid, state in states.items() if pid != os.getpid()]

    def _report_failure(self, error: Exception) -> None:
        if isinstance(error, PermissionError):
            self._usable = False
        if not self._failed:
            self._failed = True
            log.warning("worker state not shared", extra={"error": str(error)})

    def _report_recovery(self) -> None:
        if self._failed:
            self._failed = False
            log.info("worker state shared again")

    def _apply(self, reset_breaker: Callable[[str], None]) -> None:
        now = time.time()
        if self.control.changed():
            content = self.control.read()
            self._apply_level(content.get("log_level") or {"until": 0.0}, now)
            for name, requested_at in content.get("resets", {}).items():
                if requested_at > self._resets.get(name, self._begun):
                    self._resets[name] = requested_at
                    reset_breaker(name)
            self._applied_revision = content.get("revision", 0)
        if self._level_until and now >= self._level_until:
            self._level_until = 0.0
            self._log_level_controller.set_level(None)
            log.warning("log level changed back", extra={"to": self._log_level_controller.level})

    def _apply_level(self, change: dict[str, Any], now: float) -> None:
        until = change["until"]
        if now >= until:
            # It has expired already, and so has the one that it replaced.
            self._level_until = min(self._level_until, until)
        elif until != self._level_until:
            self._level_until = until
            self._log_level_controller.set_level(change["level"])
            log.warning(
                "log level changed",
                extra={"to": change["level"], "for_seconds": round(until - now)},
            )
