"""Clients work on three members that fail, and never see what the service promises not to show."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.consistency.checker import Promises
from tests.consistency.cluster import ElectionWatch, ReplicaSet
from tests.consistency.history import History
from tests.consistency.nemesis import Nemesis, ReplicaSetFaults
from tests.consistency.runs import PROMISES, record
from tests.support.gunicorn import Gunicorn

_ROUNDS = 3


@pytest.fixture
def run(
    tmp_path: Path,
    history: History,
    two_services: Callable[..., list[Gunicorn]],
    hold: Callable[[str, Promises], None],
) -> Callable[..., None]:
    """Record a run and hold it against the promises of a replica set."""

    def run(
        name: str,
        choose: Callable[[list[str]], Sequence[str]],
        *,
        election_timeout_s: float,
        request_timeout_s: float,
    ) -> None:
        timeout_ms = str(int(request_timeout_s * 1000))
        with ReplicaSet(tmp_path, election_timeout_s) as cluster:
            faults = ReplicaSetFaults(
                cluster, election_timeout_s, request_timeout_s, history.seed
            ).by_name
            services = two_services(cluster.uri, REQUEST_TIMEOUT_MS=timeout_ms)
            with ElectionWatch(cluster, history.elections):
                record(
                    history,
                    services,
                    Nemesis(history, faults, cluster.wait_healthy),
                    choose([*faults]),
                    mongodb_uri=cluster.uri,
                    request_timeout_s=request_timeout_s,
                )
        hold(name, PROMISES["replica set"])

    return run


@pytest.mark.slow
def test_a_short_history_of_a_replica_set_breaks_no_promise(run: Callable[..., None]) -> None:
    run(
        "replica set, short",
        lambda _: ["majority gone, then the primary killed", "primary parted from its peers"],
        election_timeout_s=3.0,
        request_timeout_s=1.5,
    )


@pytest.mark.slow
def test_a_long_history_of_a_replica_set_breaks_no_promise(
    run: Callable[..., None], history: History
) -> None:
    def choose(faults: list[str]) -> list[str]:
        chooser = random.Random(history.seed)
        return [fault for _ in range(_ROUNDS) for fault in chooser.sample(faults, len(faults))]

    run("replica set", choose, election_timeout_s=5.0, request_timeout_s=2.0)
