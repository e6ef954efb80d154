"""Three members: a new primary hides nothing that the old one has acknowledged."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from portfolio.devserver.mongod import Mongod
from tests.support.calls import V1, one
from tests.support.gunicorn import Gunicorn, wait_until
from tests.support.mongod import is_primary, set_uri


@pytest.mark.slow
def test_a_new_primary_hides_nothing_that_the_old_one_acknowledged(
    three_members: list[Mongod], serve: Callable[..., Gunicorn]
) -> None:
    service = serve(set_uri(three_members), REQUEST_TIMEOUT_MS="1500")
    service.wait_ready()
    for _ in range(20):  # both workers meet the primary
        assert service.status(V1) == 200
    _, heir, _ = three_members

    def hold_commit_point(mode: str) -> None:
        with heir.client() as client:
            client.admin.command("configureFailPoint", "disableSnapshotting", mode=mode)

    hold_commit_point("alwaysOn")
    created = requests.post(service.url + V1, json={"name": "Acknowledged"}, timeout=10)
    assert created.status_code == 201
    path = one(created.json()["portfolioId"])
    with heir.client() as client:
        wait_until(lambda: _stand_for_election(client), "the heir is elected")
    wait_until(lambda: is_primary(heir), "the heir is primary")

    # It has the portfolio, and does not know yet that a majority has.
    until = time.monotonic() + 5
    statuses = set()
    while time.monotonic() < until:
        statuses.add(service.status(path))
    assert statuses <= {200, 503}
    assert 503 in statuses

    hold_commit_point("off")
    wait_until(lambda: service.status(path) == 200, "the portfolio is read again")
    assert requests.get(service.url + path, timeout=10).json() == created.json()


def _stand_for_election(client: Any) -> bool:
    try:
        client.admin.command("replSetStepUp")
    except Exception:  # it lags, or the others have not heard of it
        return False
    return True
