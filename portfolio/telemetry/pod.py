"""The pod's own view: what its workers show each other, and the orders that reach all of them."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from portfolio.config import Settings
from portfolio.telemetry.board import Board, prepare_folder
from portfolio.telemetry.logging import Verbosity

log = logging.getLogger(__name__)

# Orders must reach every worker within 1 s.
_INTERVAL_S = 0.5

Snapshot = dict[str, Any]


def instance_folder(settings: Settings) -> Path:
    """Return the folder that the workers of one instance share: one a port, for local runs."""
    return Path(settings.runtime_dir) / str(settings.port)


class Orders:
    """Orders for all workers, kept in one small file that is replaced as a whole.

    Args:
        folder: the instance's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "orders.json"
        self._seen: tuple[int, int] | None = None

    def read(self) -> dict[str, Any]:
        """Return the orders in force; empty where there are none."""
        try:
            orders = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return orders if isinstance(orders, dict) else {}

    def changed(self) -> bool:
        """Tell whether there are orders that this object has not been asked about before."""
        try:
            status = self._path.stat()
        except OSError:
            return False
        seen, self._seen = self._seen, (status.st_ino, status.st_mtime_ns)
        return seen != self._seen

    def set_log_level(self, level: str, seconds: float) -> int:
        """Order ``level`` for ``seconds`` and return the order's number."""
        return self._give(log_level={"level": level, "until": time.time() + seconds})

    def reset_breaker(self, name: str) -> int:
        """Order that a breaker be closed and return the order's number."""
        resets = self.read().get("resets", {})
        return self._give(resets={**resets, name: time.time()})

    def _give(self, **orders: Any) -> int:
        prepare_folder(self._path.parent)
        known = self.read()
        number = int(known.get("number", 0)) + 1
        draft = self._path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({**known, **orders, "number": number}))
        draft.replace(self._path)
        return number


class Pod:
    """One worker's place among the workers of its instance.

    Where the run-time folder can't be used, a worker knows of itself alone.

    Args:
        settings: where the folder is.
        verbosity: what orders may change.
    """

    def __init__(self, settings: Settings, verbosity: Verbosity) -> None:
        self.folder = instance_folder(settings)
        self._verbosity = verbosity
        self.orders = Orders(self.folder)
        self._begun = time.time()
        self._obeyed = 0
        self._resets: dict[str, float] = {}
        self._level_until = 0.0
        self._board: Board | None = None
        self._failed = False
        self._stopped = threading.Event()

    def open(self) -> Board:
        """Look at the others, without being one of them.

        Raises:
            OSError: the folder can't be used.
        """
        prepare_folder(self.folder)
        self._board = Board(self.folder / "board")
        return self._board

    def start(self, describe: Callable[[], Snapshot], reset_breaker: Callable[[str], None]) -> None:
        """Begin to show this worker and to look for orders, twice a second.

        Args:
            describe: tells how this worker is, in what JSON can hold.
            reset_breaker: closes the breaker of that name, if there is one.
        """
        self._begun = time.time()
        try:
            board = self.open()
        except OSError as error:
            log.warning("workers can't see each other", extra={"error": str(error)})
            return

        def watch() -> None:
            while not self._stopped.is_set():
                try:
                    self._obey(reset_breaker)
                    own = {"obeyed": self._obeyed, **describe()}
                    board.publish(orjson.dumps(own))
                except Exception as error:  # whatever it is, the watch goes on
                    self._complain(error)
                self._stopped.wait(_INTERVAL_S)

        threading.Thread(target=watch, name="pod", daemon=True).start()

    def stop(self) -> None:
        """Leave the others' view."""
        self._stopped.set()
        if self._board is not None:
            self._board.withdraw()

    def others(self) -> list[Snapshot]:
        """Return how each other worker was half a second ago, at most."""
        if self._board is None:
            return []
        found = [orjson.loads(content) for content in self._board.read()]
        return [worker for worker in found if worker["pid"] != os.getpid()]

    def _complain(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            log.warning("worker can't be shown to the others", extra={"error": str(error)})

    def _obey(self, reset_breaker: Callable[[str], None]) -> None:
        now = time.time()
        if self.orders.changed():
            orders = self.orders.read()
            self._obey_level(orders.get("log_level") or {"until": 0.0}, now)
            for name, moment in orders.get("resets", {}).items():
                if moment > self._resets.get(name, self._begun):
                    self._resets[name] = moment
                    reset_breaker(name)
            self._obeyed = orders.get("number", 0)
        if self._level_until and now >= self._level_until:
            self._level_until = 0.0
            self._verbosity.set_level(None)
            log.warning("log level changed back", extra={"to": self._verbosity.level})

    def _obey_level(self, order: dict[str, Any], now: float) -> None:
        until = order["until"]
        if now >= until:
            # It was over before this worker looked, and so is the one that it replaced.
            self._level_until = min(self._level_until, until)
        elif until != self._level_until:
            self._level_until = until
            self._verbosity.set_level(order["level"])
            log.warning(
                "log level changed",
                extra={"to": order["level"], "for_seconds": round(until - now)},
            )
