"""Which failures say that MongoDB is away, so that a call is tried again and answered 503."""

from __future__ import annotations

import pytest
from pymongo.errors import ConfigurationError

from portfolio.config import Settings
from portfolio.errors import Unavailable
from portfolio.scheduling import budget
from portfolio.storage.database import Database
from portfolio.storage.failures import is_outage

# What PyMongo says of a connection that was opened while its server recovered.
_NO_SESSIONS = ConfigurationError("Sessions are not supported by this MongoDB deployment")


def test_a_connection_without_sessions_is_replaced_by_another_one() -> None:
    failures = [_NO_SESSIONS]

    def operation() -> str:
        if failures:
            raise failures.pop()
        return "stored"

    assert Database(Settings.from_environment({})).run("find", operation, retry=True) == "stored"


def test_a_server_without_sessions_is_unavailable_and_no_fault_of_ours() -> None:
    def operation() -> None:
        raise _NO_SESSIONS

    with pytest.raises(Unavailable), budget(0.2):
        Database(Settings.from_environment({})).run("find", operation, retry=True)


def test_any_other_configuration_that_is_wrong_is_no_outage() -> None:
    assert not is_outage(ConfigurationError("unknown option"))
