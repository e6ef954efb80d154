"""Nothing is told that a failover can take back: reads and replays show what a majority has.

Of a replica set whose majority commit point is held, writes are stored and not acknowledged: what
a primary is in that has lost its secondaries. ``tests/consistency`` has three members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from bson import ObjectId
from flask import Flask
from flask.testing import FlaskClient
from pymongo import WriteConcern, monitoring
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern

from portfolio.app import create_app
from portfolio.config import Settings
from portfolio.devserver.mongod import Mongod
from portfolio.models import PortfolioCreate
from tests.support.calls import BULK, SEARCH, V1, V2, create, create_all, one, to_stored
from tests.support.gunicorn import wait_until
from tests.support.listening import Commands, Listener, listening
from tests.support.mongod import await_primary

Documents = Collection[dict[str, Any]]
Hold = Callable[[], AbstractContextManager[None]]

KEY = {"Idempotency-Key": "k-1"}
VALIDATE = f"{V1}/validate"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with a deadline that tests can wait for."""
    return replace(settings, request_timeout_ms=500)


@pytest.fixture
def hold(replica_set: Mongod, client: FlaskClient, collection: Documents) -> Iterator[Hold]:
    """Hold the majority commit point: ``with hold(): ...``; afterwards a majority has all."""

    def set_mode(mode: str) -> None:
        with replica_set.client() as direct:
            direct.admin.command("configureFailPoint", "disableSnapshotting", mode=mode)

    @contextmanager
    def hold() -> Iterator[None]:
        # After this the service need not wait for the commit point of a primary that it meets.
        assert client.get(V1).status_code == 200
        set_mode("alwaysOn")
        try:
            yield
        finally:
            set_mode("off")
            collection.database["other"].insert_one({})

    yield hold
    set_mode("off")


def test_the_primary_is_read_whatever_the_uri_prefers(
    settings: Settings, collection: Documents
) -> None:
    uri = f"{settings.mongodb_uri}&readPreference=secondary"
    app = create_app(replace(settings, mongodb_uri=uri))
    client = app.test_client()
    created = client.post(V2, json=[{"name": "Growth"}], headers=KEY)
    assert created.status_code == 201, created.text
    assert client.get(V1).json == created.json
    assert collection.count_documents({}) == 1
    app.extensions["portfolio"].database.close()


def local(collection: Documents) -> Documents:
    """Return ``collection`` as its primary has it, for writes that a majority need not have."""
    return collection.with_options(read_concern=ReadConcern("local"), write_concern=WriteConcern(1))


def test_a_creation_that_was_not_acknowledged_is_not_replayed_until_a_majority_has_it(
    client: FlaskClient, collection: Documents, hold: Hold
) -> None:
    with hold():
        first = client.post(V1, json={"name": "Growth"}, headers=KEY)
        assert first.status_code == 503
        assert local(collection).count_documents({}) == 1
        retry = client.post(V1, json={"name": "Growth"}, headers=KEY)
        assert retry.status_code in (409, 503)
    late = client.post(V1, json={"name": "Growth"}, headers=KEY)
    assert late.status_code == 201
    assert late.headers["Idempotent-Replay"] == "true"
    assert [late.json] == client.get(V1).json


def test_an_update_that_was_not_acknowledged_is_not_read(client: FlaskClient, hold: Hold) -> None:
    created = create(client)
    path = one(created["portfolioId"])
    with hold():
        update = client.put(path, json=created | {"name": "Value"})
        assert update.status_code == 503
        assert client.get(path).json == created
    wait_until(lambda: client.get(path).json["version"] == 2, "a majority has the update")


def test_no_call_shows_what_no_majority_has(
    app: Flask, client: FlaskClient, collection: Documents, hold: Hold
) -> None:
    [kept] = create_all(client, ["Kept"])
    stray = to_stored(PortfolioCreate("Stray"))
    stray_id = str(stray["_id"])
    with hold():
        local(collection).insert_one(stray)
        assert client.get(one(stray_id)).status_code == 404
        assert client.get(V1).json == [kept]
        for path in (V2, SEARCH):
            for query in ("", "?name=Stray", "?name_like=stra", "?limit=1"):
                assert "Stray" not in client.get(path + query).text
        assert client.get(f"{V2}?cursor=").json["portfolios"] == [kept]
        answer = client.post(VALIDATE, json={"portfolioIds": [stray_id, kept["portfolioId"]]})
        assert (answer.json["invalid"], answer.json["valid"]) == ([stray_id], [kept["portfolioId"]])
        service = app.extensions["portfolio"].portfolios
        [batch] = service.list_by_id()
        assert [each.id for each in batch] == [kept["portfolioId"]]
        found = app.test_cli_runner().invoke(args=["portfolios", "find", "Stray"])
        assert "No portfolio's name contains" in found.output
    assert client.get(one(stray_id)).json["name"] == "Stray"


def test_a_refusal_is_not_told_on_the_ground_of_what_no_majority_has(
    client: FlaskClient, collection: Documents, hold: Hold
) -> None:
    created = create(client)
    path = one(created["portfolioId"])
    identity = {"_id": ObjectId(created["portfolioId"])}
    with hold():
        local(collection).update_one(identity, {"$set": {"version": 2}})
        assert client.put(path, json=created).status_code == 503
        local(collection).delete_one(identity)
        assert client.put(path, json=created).status_code == 503
        assert client.delete(f"{path}?version=1").status_code == 503
        # Names that a failover can free again do not refuse a bulk.
        local(collection).insert_one(to_stored(PortfolioCreate("Stray")))
        assert client.post(BULK, json=[{"name": "stray"}]).status_code == 503


@pytest.mark.parametrize("key", [{}, KEY])
@pytest.mark.parametrize("path", [V1, V2])
def test_a_creation_whose_first_attempt_landed_is_acknowledged_once_a_majority_has_it(
    client: FlaskClient,
    collection: Documents,
    fail: Callable[..., None],
    hold: Hold,
    path: str,
    key: dict[str, str],
) -> None:
    body: Any = {"name": "Growth"} if path == V1 else [{"name": "Growth"}]
    command = "insert" if path == V1 and not key else "commitTransaction"
    with hold():
        # Written, but the answer does not say so; the next attempt meets what is there.
        fail([command], 1, writeConcernError={"code": 64, "errmsg": "waiting timed out"})
        assert client.post(path, json=body, headers=key).status_code == 503
        assert local(collection).count_documents({}) == 1
    wait_until(lambda: len(client.get(V1).json) == 1, "a majority has it")


def test_a_creation_that_was_rolled_back_between_two_attempts_is_stored_again(
    settings: Settings, collection: Documents, fail: Callable[..., None]
) -> None:
    inserted: list[Any] = []

    class RolledBack(Listener):
        """Deletes what was inserted once the second attempt has met it."""

        def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
            if event.command_name == "insert":
                inserted.append(event.reply.get("writeErrors"))
                if len(inserted) == 2:
                    collection.delete_many({})

    fail(["insert"], 1, writeConcernError={"code": 64, "errmsg": "waiting timed out"})
    with listening(settings, RolledBack()) as app:
        created = app.test_client().post(V1, json={"name": "Growth"})
    assert created.status_code == 201
    # Stored, met by the second attempt, stored again.
    assert [bool(errors) for errors in inserted] == [False, True, False]
    assert [str(each["_id"]) for each in collection.find()] == [created.json["portfolioId"]]


def read_concerns(commands: Commands) -> dict[str, set[str | None]]:
    """Return the levels of the reads that were sent, by command."""
    levels: dict[str, set[str | None]] = {}
    for name, command in commands.sent:
        if name in ("find", "aggregate", "count"):
            levels.setdefault(name, set()).add(command.get("readConcern", {}).get("level"))
    return levels


def test_every_read_asks_for_what_a_majority_has(app: Flask, settings: Settings) -> None:
    commands = Commands()
    with listening(settings, commands) as heard:
        client = heard.test_client()
        created = create(client)
        client.get(one(created["portfolioId"]))
        client.put(one(created["portfolioId"]), json=created | {"version": 7})
        client.get(V1)
        client.get(f"{V2}?name_like=row&limit=1&offset=7")
        client.post(BULK, json=[{"name": "Growth"}], headers=KEY)
        client.post(f"{V2}/resolve", json={"ids": [created["portfolioId"]], "names": ["Growth"]})
    # The first find waits until the primary shows all that was acknowledged.
    assert read_concerns(commands) == {
        "find": {"majority", "linearizable"},
        "aggregate": {"majority"},
        "count": {"majority"},
    }


def test_every_write_asks_for_the_journal_of_a_majority(
    settings: Settings, collection: Documents
) -> None:
    commands = Commands()
    with listening(settings, commands) as app:
        client = app.test_client()
        created = create(client)
        path = one(created["portfolioId"])
        assert client.put(path, json=created | {"name": "Value"}).status_code == 200
        assert client.delete(f"{path}?version=2").status_code == 204
        assert client.post(V1, json={"name": "Growth"}, headers=KEY).status_code == 201
    # A command within a transaction has no write concern of its own.
    concerns = {
        name: dict(command["writeConcern"])
        for name, command in commands.sent
        if "writeConcern" in command
    }
    writes = ("insert", "findAndModify", "delete", "commitTransaction")
    assert concerns == {name: {"w": "majority", "j": True} for name in writes}


def test_a_read_is_repeated_if_another_met_the_new_primary_meanwhile(
    settings: Settings, collection: Documents
) -> None:
    finds: list[str | None] = []

    class OtherReader(Listener):
        """Lets another read begin and end while the first is on its way."""

        def started(self, event: monitoring.CommandStartedEvent) -> None:
            if event.command_name == "find":
                finds.append(event.command["readConcern"]["level"])

        def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
            if finds == ["majority"]:
                finds.append("other")
                assert app.test_client().get(one(str(ObjectId()))).status_code == 404
                finds.append("other done")

    with listening(settings, OtherReader()) as app:
        assert app.test_client().get(V1).status_code == 200
    assert "majority" in finds[finds.index("other done") :]


def test_a_read_is_repeated_if_its_primary_is_gone_when_it_has_answered(
    settings: Settings, replica_set: Mongod, collection: Documents
) -> None:
    class StepDown(Commands):
        """Has the primary step down when a read has been answered."""

        armed = False

        def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
            if self.armed and event.command_name == "find":
                self.armed = False
                self.sent.clear()
                with replica_set.client() as direct:
                    direct.admin.command("replSetStepDown", 1, force=True)
                wait_until(lambda: database.client.primary is None, "the primary is gone")

    commands = StepDown()
    with listening(replace(settings, request_timeout_ms=20_000), commands) as app:
        database = app.extensions["portfolio"].database
        assert app.test_client().get(V1).status_code == 200
        commands.armed = True
        assert app.test_client().get(V1).status_code == 200
        await_primary([replica_set])
    assert read_concerns(commands) == {"find": {"majority", "linearizable"}}
