"""Which failures say that MongoDB is away, and why: in a few words, without secrets or dumps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from portfolio.config import Settings
from portfolio.errors import Unavailable
from portfolio.scheduling import budget
from portfolio.storage.database import Database
from portfolio.storage.failures import find_cause, is_unreachable, location

SELECTION = ServerSelectionTimeoutError(
    "No servers found yet, Timeout: 1.0s, Topology Description: <TopologyDescription …>"
)
REFUSED = AutoReconnect("db:27017: [Errno 111] Connection refused (configured timeouts: x: 1.0ms)")
# What PyMongo says of a connection that was opened while its server recovered.
NO_SESSIONS = ConfigurationError("Sessions are not supported by this MongoDB deployment")
DUMP = "not authorized on portfolio to execute command { count: 1, lsid: { id: UUID(7) } }"


def server(error: Exception | None, host: str = "db") -> Any:
    return SimpleNamespace(address=(host, 27017), error=error)


@pytest.mark.parametrize(
    ("error", "servers", "cause"),
    [
        (SELECTION, [server(REFUSED)], "db:27017: [Errno 111] Connection refused"),
        (SELECTION, [server(NetworkTimeout("long"))], "db:27017: no answer in time"),
        (SELECTION, [server(None)], "no answer in time"),
        (
            SELECTION,
            [server(OperationFailure("no", 18, {"errmsg": "Authentication failed.", "lsid": 1}))],
            "wrong user or password (Authentication failed.)",
        ),
        (
            ServerSelectionTimeoutError("No replica set members found yet, Timeout: 1.0s, …"),
            [server(None)],
            "no answer in time",
        ),
        (
            SELECTION,
            [server(NetworkTimeout("")), server(NetworkTimeout(""), "other"), server(None)],
            "db:27017: no answer in time; other:27017: no answer in time",
        ),
        (
            ServerSelectionTimeoutError('No servers match selector "Primary()", Timeout: 1.0s, …'),
            [server(None)],
            "no server is the primary",
        ),
        (OperationFailure("Authentication failed.", 18), [], "wrong user or password"),
        (OperationFailure("command count requires authentication", 13), [], "it asks for a user"),
        (OperationFailure(DUMP, 13), [], "the user lacks a right (not authorized on portfolio)"),
        (ConfigurationError("no such\nname"), [], "ConfigurationError: no such name"),
    ],
)
def test_a_cause_is_said_in_a_few_words(error: Exception, servers: list[Any], cause: str) -> None:
    found = find_cause(error, servers)
    assert cause in found
    assert "Topology" not in found
    assert "lsid" not in found


def test_a_cause_is_no_longer_than_a_line_or_two() -> None:
    assert len(find_cause(ConfigurationError("x" * 5000), [])) <= 300


def test_where_it_is_said_to_be_has_no_password_and_no_options() -> None:
    uri = "mongodb://app:hunter2@a:1,b:2/?authSource=admin&tlsCertificateKeyFilePassword=x"
    assert location(uri) == "mongodb://app:***@a:1,b:2"


def test_only_errors_of_reaching_it_are_taken_for_that() -> None:
    assert is_unreachable(SELECTION)
    assert is_unreachable(OperationFailure("", 18))
    assert not is_unreachable(OperationFailure("ns not found", 26))
    assert not is_unreachable(ValueError())


def test_a_connection_without_sessions_is_replaced_by_another_one() -> None:
    failures = [NO_SESSIONS]

    def operation() -> str:
        if failures:
            raise failures.pop()
        return "stored"

    assert Database(Settings.from_environment({})).run("find", operation, retry=True) == "stored"


@pytest.mark.parametrize("error", [NO_SESSIONS, ConfigurationError("wire version 6")])
def test_a_server_of_another_kind_is_unavailable_and_no_fault_of_ours(error: Exception) -> None:
    def operation() -> None:
        raise error

    with pytest.raises(Unavailable), budget(0.2):
        Database(Settings.from_environment({})).run("find", operation, retry=True)


def test_no_value_of_a_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def update() -> None:
        command = '{ findAndModify: "portfolio", update: { $set: { name: "Secret" } } }'
        text = f"not authorized on portfolio to execute command {command}"
        raise OperationFailure(text, 13, {"ok": 0.0, "errmsg": text, "code": 13})

    with pytest.raises(Unavailable):
        Database(Settings.from_environment({})).run("findAndModify", update, retry=False)
    (record,) = caplog.records
    assert vars(record)["error"] == "OperationFailure: not authorized on portfolio"
