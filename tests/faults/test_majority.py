"""Three members: nothing is read or replayed that is taken back, nothing acknowledged is missed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from portfolio.devserver.mongod import Mongod
from tests.support.gunicorn import Gunicorn, wait_until
from tests.support.mongod import await_primary, is_primary, set_uri

pytestmark = pytest.mark.slow

V1 = "/api/v1/portfolios"
KEY = {"Idempotency-Key": "k-1"}


@pytest.fixture
def service(three_members: list[Mongod], serve: Callable[..., Gunicorn]) -> Gunicorn:
    gunicorn = serve(set_uri(three_members), REQUEST_TIMEOUT_MS="1500")
    gunicorn.wait_ready()
    # Both workers have met the primary.
    for _ in range(20):
        assert get(gunicorn, V1).status_code == 200
    return gunicorn


def get(service: Gunicorn, path: str) -> requests.Response:
    return requests.get(service.url + path, timeout=10)


def post(service: Gunicorn, body: Any, headers: dict[str, str] | None = None) -> requests.Response:
    return requests.post(service.url + V1, json=body, headers=headers, timeout=10)


def one(portfolio: dict[str, Any]) -> str:
    return f"/api/v1/portfolio/{portfolio['portfolioId']}"


def test_what_a_primary_without_secondaries_stores_is_neither_replayed_nor_read(
    three_members: list[Mongod], service: Gunicorn
) -> None:
    primary, *secondaries = three_members
    kept = post(service, {"name": "Kept"}).json()
    for secondary in secondaries:
        secondary.kill()
    assert post(service, {"name": "Growth"}, KEY).status_code == 503
    # Until the primary notices and steps down; asked at once, of either worker.
    retries = [post(service, {"name": "Growth"}, KEY).status_code for _ in range(10)]
    assert 201 not in retries
    update = requests.put(service.url + one(kept), json=kept | {"name": "Lost"}, timeout=10)
    assert update.status_code == 503
    for _ in range(10):
        read = get(service, one(kept))
        assert read.status_code == 503 or read.json() == kept

    primary.kill()
    for secondary in secondaries:
        secondary.start()
    await_primary(secondaries)
    service.wait_ready()

    def created() -> Any:
        answer = post(service, {"name": "Growth"}, KEY)
        return answer if answer.status_code == 201 else None

    answer = wait_until(created, "the retry is acknowledged once a majority is back")
    primary.start()
    assert get(service, one(answer.json())).json() == answer.json()
    assert get(service, one(kept)).json() == kept
    assert len(get(service, V1).json()) == 2


def test_a_new_primary_hides_nothing_that_the_old_one_acknowledged(
    three_members: list[Mongod], service: Gunicorn
) -> None:
    _, heir, _ = three_members

    def hold_commit_point(mode: str) -> None:
        with heir.client() as client:
            client.admin.command("configureFailPoint", "disableSnapshotting", mode=mode)

    hold_commit_point("alwaysOn")
    created = post(service, {"name": "Acknowledged"})
    assert created.status_code == 201
    path = one(created.json())
    with heir.client() as client:
        wait_until(lambda: _stand_for_election(client), "the heir is elected")
    wait_until(lambda: is_primary(heir), "the heir is primary")

    # It has the portfolio, and does not know yet that a majority has.
    until = time.monotonic() + 5
    statuses = set()
    while time.monotonic() < until:
        statuses.add(get(service, path).status_code)
    assert statuses <= {200, 503}
    assert 503 in statuses

    hold_commit_point("off")
    wait_until(lambda: get(service, path).status_code == 200, "the portfolio is read again")
    assert get(service, path).json() == created.json()


def _stand_for_election(client: Any) -> bool:
    try:
        client.admin.command("replSetStepUp")
    except Exception:  # it lags, or the others have not heard of it
        return False
    return True
