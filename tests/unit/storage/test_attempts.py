"""Each attempt of a database operation is told, for ``mongodb_operation_duration_seconds``."""

from __future__ import annotations

import time

import pytest
from pymongo.errors import AutoReconnect, OperationFailure

from portfolio.config import Settings
from portfolio.errors import Unavailable
from portfolio.storage.database import Database
from portfolio.storage.inserts import KeyTakenError


@pytest.fixture
def attempts() -> list[tuple[str, str, float]]:
    """Name, outcome and seconds of each attempt so far."""
    return []


@pytest.fixture
def database(attempts: list[tuple[str, str, float]]) -> Database:
    """A database that keeps a list of the attempts."""
    database = Database(Settings.from_environment({}))
    database.on_attempt = lambda *attempt: attempts.append(attempt)
    return database


def test_an_attempt_that_fails_and_the_one_after_it_are_told(
    database: Database, attempts: list[tuple[str, str, float]]
) -> None:
    failures = [AutoReconnect("cut")]

    def operation() -> None:
        if failures:
            raise failures.pop()

    database.run("find", operation, retry=True)
    assert [attempt[:2] for attempt in attempts] == [("find", "failure"), ("find", "success")]


def test_a_refusal_is_told_and_raised(
    database: Database, attempts: list[tuple[str, str, float]]
) -> None:
    def operation() -> None:
        raise OperationFailure("no", 121)

    with pytest.raises(OperationFailure):
        database.run("insert", operation, retry=True)
    assert [attempt[:2] for attempt in attempts] == [("insert", "failure")]


def test_a_right_that_is_missing_is_told_at_once_and_does_not_stop_what_is_allowed(
    database: Database, attempts: list[tuple[str, str, float]]
) -> None:
    def operation() -> None:
        raise OperationFailure("not authorized on portfolio", 13)

    calls = 2 * Settings.from_environment({}).breaker_failures
    for _ in range(calls):
        with pytest.raises(Unavailable):
            database.run("insert", operation, retry=True)
    assert [attempt[:2] for attempt in attempts] == [("insert", "failure")] * calls
    assert database.run("find", lambda: "found", retry=True) == "found"


def test_what_mongodb_answered_is_no_failure_of_its_own_though_the_call_is_refused(
    database: Database, attempts: list[tuple[str, str, float]]
) -> None:
    def operation() -> None:
        raise KeyTakenError

    with pytest.raises(KeyTakenError):
        database.run("insert", operation, retry=True)
    assert [attempt[:2] for attempt in attempts] == [("insert", "success")]


def test_the_duration_is_that_of_the_attempt(
    database: Database, attempts: list[tuple[str, str, float]]
) -> None:
    database.run("count", lambda: time.sleep(0.05), retry=False)
    ((_, _, seconds),) = attempts
    assert 0.05 <= seconds < 50, "in seconds"
