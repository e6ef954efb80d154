"""A client that tries a creation again with its Idempotency-Key never makes a portfolio twice."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from portfolio.devserver.mongod import Mongod
from tests.faults.conftest import tracebacks
from tests.support.gunicorn import Gunicorn
from tests.support.harness import Answer, Connection, NoAnswer
from tests.support.proxy import Proxy

# A killed worker leaves its transaction open: mongod ends it after this, by default a minute.
_TRANSACTIONS_LIVE_S = 10
_PATIENCE_S = 60.0
_IMPATIENT_S = 0.4


class Creation:
    """One creation, of one portfolio or of a bulk, tried until it is answered.

    Args:
        service: where to create.
        count: how many portfolios; more than one go by v2's bulk.
    """

    def __init__(self, service: Gunicorn, count: int) -> None:
        self.names = [f"once-{uuid.uuid4().hex}" for _ in range(count)]
        self.attempts: list[str] = []
        self._service = service
        self._key = {"Idempotency-Key": uuid.uuid4().hex}

    def send(self, timeout_s: float) -> Answer:
        """Try once."""
        connection = Connection([self._service.url], timeout_s=timeout_s)
        body: Any = [{"name": name} for name in self.names]
        try:
            if len(self.names) == 1:
                return connection.request("POST", "/api/v1/portfolios", body[0], self._key)
            return connection.request("POST", "/api/v2/portfolios", body, self._key)
        finally:
            connection.close()

    def persist(self) -> Answer:
        """Try until it is created; the first attempts give up after less than half a second."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            impatient = len(self.attempts) < 4
            try:
                answer = self.send(_IMPATIENT_S if impatient else 10.0)
                self.attempts.append(answer.kind)
            except NoAnswer as error:
                self.attempts.append(str(error))
                continue
            if answer.status == 201:
                return answer
            assert answer.status in (409, 503), answer
            assert time.monotonic() < deadline, f"never created: {Counter(self.attempts)}"
            time.sleep(0.2)


def assert_each_is_stored_once(mongod: Mongod, creations: list[Creation]) -> None:
    with mongod.client() as client:
        stored = Counter(
            document["name"] for document in client["portfolio"]["portfolio"].find({}, {"name": 1})
        )
    assert stored == Counter(name for creation in creations for name in creation.names)


@pytest.fixture(params=["standalone", "replica set"])
def breakable(request: pytest.FixtureRequest, start_mongod: Callable[..., Mongod]) -> Mongod:
    """A MongoDB that the test may break, once of each topology."""
    if request.param == "standalone":
        return start_mongod()
    limit = {"transactionLifetimeLimitSeconds": str(_TRANSACTIONS_LIVE_S)}
    mongod = start_mongod(replica_set="rs", parameters=limit)
    mongod.initiate()
    return mongod


@pytest.mark.slow
def test_retries_after_time_outs_create_once(
    breakable: Mongod, serve: Callable[..., Gunicorn]
) -> None:
    with Proxy(breakable.port) as network, ThreadPoolExecutor(8) as pool:
        service = serve(network.uri)
        service.wait_ready()
        creations = [Creation(service, count) for count in (1, 10) * 8]
        network.delay_s = 0.5
        answers = list(pool.map(Creation.persist, creations))
        network.delay_s = 0.0
        replays = [creation.send(timeout_s=10.0) for creation in creations]
    assert {len(creation.attempts) > 1 for creation in creations} == {True}
    assert [replay.body for replay in replays] == [answer.body for answer in answers]
    assert {replay.headers["Idempotent-Replay"] for replay in replays} == {"true"}
    assert_each_is_stored_once(breakable, creations)
    assert tracebacks(service) == []


@pytest.mark.slow
def test_retries_over_a_crash_of_mongod_create_once(
    breakable: Mongod, serve: Callable[..., Gunicorn]
) -> None:
    service = serve(breakable.uri)
    service.wait_ready()
    creations = [Creation(service, count) for count in (1, 10) * 40]
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(creation.persist) for creation in creations]
        answers[20].result()
        breakable.kill()
        breakable.start()
        created = [answer.result() for answer in answers]
    assert {answer.status for answer in created} == {201}
    assert_each_is_stored_once(breakable, creations)
    assert tracebacks(service) == []


@pytest.mark.slow
def test_what_a_killed_worker_began_is_completed_once_by_the_retry(
    breakable: Mongod, serve: Callable[..., Gunicorn]
) -> None:
    service = serve(breakable.uri)
    service.wait_ready()
    creations = [Creation(service, count) for count in (1, 10) * 20]
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(creation.persist) for creation in creations]
        answers[8].result()
        for worker in service.workers():
            worker.kill()
        created = [answer.result() for answer in answers]
    assert {answer.status for answer in created} == {201}
    assert_each_is_stored_once(breakable, creations)
