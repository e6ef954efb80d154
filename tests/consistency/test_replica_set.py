"""Clients work on three members that fail, and never see what the service promises not to show."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.consistency.cluster import ElectionWatch, ReplicaSet
from tests.consistency.history import History
from tests.consistency.nemesis import Nemesis, ReplicaSetFaults
from tests.consistency.runs import record
from tests.support.gunicorn import Gunicorn

_ELECTION_TIMEOUT_S = 5.0
_REQUEST_TIMEOUT_S = 2.0
_ROUNDS = 3


@pytest.mark.slow
def test_a_history_of_a_replica_set_breaks_no_promise(
    tmp_path: Path,
    history: History,
    two_services: Callable[..., list[Gunicorn]],
    hold: Callable[[str], None],
) -> None:
    with ReplicaSet(tmp_path, _ELECTION_TIMEOUT_S) as cluster:
        services = two_services(cluster.uri, REQUEST_TIMEOUT_MS=str(int(_REQUEST_TIMEOUT_S * 1000)))
        faults = ReplicaSetFaults(
            cluster, _ELECTION_TIMEOUT_S, _REQUEST_TIMEOUT_S, history.seed
        ).by_name
        chooser = random.Random(history.seed)
        with ElectionWatch(cluster, history.elections):
            record(
                history,
                services,
                Nemesis(history, faults, cluster.wait_healthy),
                [fault for _ in range(_ROUNDS) for fault in chooser.sample([*faults], len(faults))],
                mongodb_uri=cluster.uri,
                request_timeout_s=_REQUEST_TIMEOUT_S,
            )
    hold("replica set")
