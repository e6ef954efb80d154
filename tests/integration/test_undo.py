"""A bulk that a standalone stored without an answer is undone, but never what was acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pymongo import monitoring
from pymongo.collection import Collection

from portfolio.config import Settings
from portfolio.devserver.mongod import Mongod
from tests.support.calls import V1, V2, one
from tests.support.gunicorn import wait_until
from tests.support.listening import Listener, listening

_BEFORE_DELETE = "hangDuringBatchRemove"
_WRITTEN_BUT_REPORTED_FAILED = {"writeConcernError": {"code": 64, "errmsg": "waiting timed out"}}
_NAMES = ["A", "B", "C"]


@pytest.fixture
def mongod(standalone: Mongod) -> Mongod:
    return standalone


@contextmanager
def undo_held(mongod: Mongod) -> Iterator[Callable[[], bool]]:
    """Hold deletes back; yield what tells whether one is waiting."""
    waiting = [{"$currentOp": {}}, {"$match": {"failpointMsg": _BEFORE_DELETE}}]
    with mongod.client() as client:
        client.admin.command("configureFailPoint", _BEFORE_DELETE, mode="alwaysOn")
        try:
            yield lambda: bool(list(client.admin.aggregate(waiting)))
        finally:
            client.admin.command("configureFailPoint", _BEFORE_DELETE, mode="off")


def test_a_bulk_is_completed_and_not_undone_where_an_update_of_it_was_acknowledged(
    app: Flask, client: FlaskClient, mongod: Mongod, fail: Callable[..., None]
) -> None:
    fail(["insert"], 1, **_WRITTEN_BUT_REPORTED_FAILED)
    body = [{"name": name} for name in _NAMES]
    with ThreadPoolExecutor(1) as pool:
        with undo_held(mongod) as is_waiting:
            answer: Future[Any] = pool.submit(app.test_client().post, V2, json=body)
            wait_until(is_waiting, "the bulk is about to be undone")
            stored = client.get(V1).json
            changed = stored[0] | {"name": "Changed"}
            assert client.put(one(changed["portfolioId"]), json=changed).status_code == 200
        assert answer.result().status_code == 503
    expected = {"Changed", *_NAMES[1:]}
    wait_until(
        lambda: {each["name"] for each in client.get(V1).json} == expected,
        "the rest of the bulk is stored beside what was changed",
        5.0,
    )


def test_an_insert_that_runs_after_it_was_undone_is_undone_again(
    settings: Settings, collection: Collection[dict[str, Any]], fail: Callable[..., None]
) -> None:
    class LateInsert(Listener):
        """Stores the bulk once more when it has been undone for the first time."""

        def __init__(self) -> None:
            self.bulk: list[dict[str, Any]] = []

        def started(self, event: monitoring.CommandStartedEvent) -> None:
            if event.command_name == "delete" and not self.bulk:
                self.bulk = list(collection.find())

        def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
            if event.command_name == "delete" and not undone:
                undone.append(len(self.bulk))
                collection.insert_many(self.bulk)

    undone: list[int] = []
    fail(["insert"], 1, **_WRITTEN_BUT_REPORTED_FAILED)
    with listening(settings, LateInsert()) as app:
        client = app.test_client()
        assert client.post(V2, json=[{"name": name} for name in _NAMES]).status_code == 503
        assert undone == [len(_NAMES)]
        wait_until(lambda: client.get(V1).json == [], "the late insert is undone", 10.0)
