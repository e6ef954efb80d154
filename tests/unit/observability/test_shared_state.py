"""Workers follow the control file, whatever the clock does."""

from __future__ import annotations

import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from portfolio.config import Settings
from portfolio.observability.shared_state import WorkerCoordinator
from tests.support.gunicorn import wait_until


def test_a_breaker_is_reset_again_after_the_clock_went_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_environment({"PORTFOLIO_RUNTIME_DIR": str(tmp_path)})
    coordinator = WorkerCoordinator(settings, Mock())
    coordinator.shared.reset_breaker("database")
    reset: list[str] = []
    coordinator.start(dict, reset.append)
    hour_ago = time.time() - 3600
    monkeypatch.setattr(time, "time", lambda: hour_ago)
    coordinator.shared.reset_breaker("database")
    try:
        wait_until(lambda: reset, "the breaker is reset")
    finally:
        coordinator.unregister()
    assert reset == ["database"]
