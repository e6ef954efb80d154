"""Clients work on a standalone that is killed and stopped, and lose nothing acknowledged."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from portfolio.devserver.mongod import Mongod
from tests.consistency.history import History
from tests.consistency.nemesis import Nemesis, StandaloneFaults
from tests.consistency.runs import record
from tests.support.gunicorn import Gunicorn
from tests.support.mongod import TEST_PARAMETERS

_REQUEST_TIMEOUT_S = 2.0
_ROUNDS = 6


@pytest.mark.slow
def test_a_history_of_a_standalone_breaks_no_promise(
    tmp_path: Path,
    history: History,
    two_services: Callable[..., list[Gunicorn]],
    hold: Callable[[str], None],
) -> None:
    mongod = Mongod(tmp_path / "mongod", parameters=TEST_PARAMETERS)
    mongod.start()
    try:
        services = two_services(mongod.uri, REQUEST_TIMEOUT_MS=str(int(_REQUEST_TIMEOUT_S * 1000)))
        faults = StandaloneFaults(mongod, history.seed).by_name

        def wait_healthy() -> None:
            for service in services:
                service.wait_ready()

        chooser = random.Random(history.seed)
        record(
            history,
            services,
            Nemesis(history, faults, wait_healthy, crashes=["killed and restarted"]),
            [fault for _ in range(_ROUNDS) for fault in chooser.sample([*faults], len(faults))],
            mongodb_uri=mongod.uri,
            request_timeout_s=_REQUEST_TIMEOUT_S,
        )
    finally:
        mongod.kill()
    hold("standalone")
