"""Requests that come together share database commands, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from pymongo.collection import Collection

from portfolio.devserver.mongod import Mongod
from portfolio.models import PortfolioCreate
from portfolio.storage.connection import COLLECTION
from tests.support.calls import V1, V2, to_stored
from tests.support.gunicorn import Gunicorn, running
from tests.support.together import get, post, send_together

Documents = Collection[dict[str, Any]]

NAMES = [f"Fund {number}" for number in range(8)]
SINGLES = [{"name": name} for name in NAMES]
BULKS = [[{"name": name}, {"name": f"{name} B"}] for name in NAMES]
BODIES = pytest.mark.parametrize(("path", "bodies"), [(V1, SINGLES), (V2, BULKS)])
COMMANDS = {V1: "insert", V2: "commitTransaction"}


@pytest.fixture(scope="module")
def gunicorn(tmp_path_factory: pytest.TempPathFactory, replica_set: Mongod) -> Iterator[Gunicorn]:
    """A Gunicorn with one worker."""
    environment = {"MONGODB_DB": "shared-commands", "WEB_CONCURRENCY": "1"}
    folder = tmp_path_factory.mktemp("shared")
    with running(folder, replica_set.uri, **environment) as gunicorn:
        yield gunicorn


@pytest.fixture
def collection(gunicorn: Gunicorn, replica_set: Mongod) -> Iterator[Documents]:
    """The collection of ``gunicorn``, empty."""
    with replica_set.client() as client:
        collection = client["shared-commands"][COLLECTION]
        yield collection
        collection.delete_many({})


@pytest.fixture
def refuse_last_name(collection: Documents) -> Iterator[None]:
    """Let MongoDB refuse documents with the last of ``NAMES``."""
    database = collection.database
    validator = {"name": {"$ne": NAMES[-1]}}
    database.command("collMod", collection.name, validator=validator)
    yield
    database.command("collMod", collection.name, validator={})


def create_together(gunicorn: Gunicorn, path: str, bodies: list[Any]) -> list[int]:
    answers = send_together(gunicorn, [post(path, body) for body in bodies])
    return [answer.status for answer in answers]


def count(mongod: Mongod, command: str) -> int:
    """Return how many commands of this kind MongoDB has run."""
    with mongod.client() as client:
        commands = client.admin.command("serverStatus")["metrics"]["commands"]
        return int(commands[command]["total"])


def stored_names(collection: Documents) -> list[str]:
    return sorted(each["name"] for each in collection.find())


def names_of(bodies: list[Any]) -> list[str]:
    return sorted(
        each["name"] for body in bodies for each in (body if isinstance(body, list) else [body])
    )


@BODIES
def test_creations_that_come_together_share_writes(
    gunicorn: Gunicorn, mongod: Mongod, collection: Documents, path: str, bodies: list[Any]
) -> None:
    before = count(mongod, "insert")
    assert create_together(gunicorn, path, bodies) == [201] * len(bodies)
    assert count(mongod, "insert") - before < len(bodies)
    assert stored_names(collection) == names_of(bodies)


@BODIES
@pytest.mark.usefixtures("refuse_last_name")
def test_a_creation_that_mongodb_refuses_fails_alone(
    gunicorn: Gunicorn, collection: Documents, path: str, bodies: list[Any]
) -> None:
    statuses = create_together(gunicorn, path, bodies)
    assert statuses == [201] * (len(bodies) - 1) + [500]
    assert stored_names(collection) == names_of(bodies[:-1])


@BODIES
def test_creations_whose_shared_write_was_not_acknowledged_are_stored_once(
    gunicorn: Gunicorn,
    collection: Documents,
    fail: Callable[..., None],
    path: str,
    bodies: list[Any],
) -> None:
    fail([COMMANDS[path]], 1, writeConcernError={"code": 64, "errmsg": "waiting timed out"})
    assert create_together(gunicorn, path, bodies) == [201] * len(bodies)
    assert stored_names(collection) == names_of(bodies)


@BODIES
def test_a_shared_write_that_fails_is_tried_again_for_each_creation(
    gunicorn: Gunicorn,
    collection: Documents,
    fail: Callable[..., None],
    path: str,
    bodies: list[Any],
) -> None:
    fail(["insert"], 1, errorCode=8000)  # AtlasError: no outage, so that it is not retried
    statuses = create_together(gunicorn, path, bodies)
    assert statuses.count(201) >= len(bodies) - 1
    assert set(statuses) <= {201, 500}
    created = [body for body, status in zip(bodies, statuses, strict=True) if status == 201]
    assert stored_names(collection) == names_of(created)


def search_together(gunicorn: Gunicorn, queries: list[str]) -> list[Any]:
    answers = send_together(gunicorn, [get(f"{V2}?{query}") for query in queries])
    assert [answer.status for answer in answers] == [200] * len(queries)
    return [answer.body for answer in answers]


def test_searches_for_names_that_come_together_share_a_query(
    gunicorn: Gunicorn, mongod: Mongod, collection: Documents
) -> None:
    stored = [to_stored(PortfolioCreate(name)) for name in NAMES]
    collection.insert_many(stored)
    before = count(mongod, "find")
    pages = search_together(gunicorn, [f"name={quote(name)}" for name in NAMES])
    assert count(mongod, "find") - before < len(NAMES)
    found = [[each["name"] for each in page["portfolios"]] for page in pages]
    assert found == [[name] for name in NAMES]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["Fund 1", "fund 1", "FUND 2"], id="in several spellings"),
        pytest.param(["Fund 1"] * 5 + ["Fund 2"] * 3, id="more than a page"),
        pytest.param(["Fund 1", "Fund\N{SOFT HYPHEN} 1"], id="equal by the collation alone"),
    ],
)
def test_searches_find_together_what_they_find_alone(
    gunicorn: Gunicorn, collection: Documents, names: list[str]
) -> None:
    collection.insert_many([to_stored(PortfolioCreate(name)) for name in names])
    queries = [
        f"name={name}&limit={limit}"
        for name in ("Fund%201", "FUND%201", "fund%202", "Fund%203")
        for limit in (1, 2, 4)
    ]
    alone = [search_together(gunicorn, [query])[0] for query in queries]
    assert search_together(gunicorn, queries) == alone
