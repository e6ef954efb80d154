"""The service as production runs it, in short; ``tests/server`` has the rest."""

from __future__ import annotations

from collections.abc import Callable

import requests

from portfolio.devserver.mongod import Mongod
from tests.support.calls import V1, V2, one
from tests.support.gunicorn import Gunicorn, wait_until


def test_both_workers_serve_log_and_stop(
    serve: Callable[..., Gunicorn], replica_set: Mongod, database_name: str
) -> None:
    gunicorn = serve(replica_set.uri, MONGODB_DB=database_name, DRAIN_SECONDS="0")
    gunicorn.wait_ready()
    created = requests.post(gunicorn.url + V1, json={"name": "Growth"}, timeout=10)
    assert created.status_code == 201
    path = gunicorn.url + one(created.json()["portfolioId"])

    def both_served() -> bool:
        assert requests.get(path, timeout=10).json() == created.json()
        assert requests.get(gunicorn.url + V2, timeout=10).json()["portfolios"] == [created.json()]
        return len({line["pid"] for line in gunicorn.log_lines() if line.get("path") == V2}) == 2

    wait_until(both_served, "both workers have logged a search")
    assert gunicorn.stop() == 0
    assert not [line for line in gunicorn.log_lines() if line["level"] in ("WARNING", "ERROR")]
    with replica_set.client() as client:
        client.drop_database(database_name)
