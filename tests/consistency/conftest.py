"""What consistency tests share: the seed, two services, the table of runs."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest

from tests.consistency.history import History
from tests.consistency.runs import rows, verify
from tests.support import tables
from tests.support.gunicorn import Gunicorn

_COLUMNS = (
    "run",
    "operation",
    "ok",
    "refused",
    "indeterminate",
    "faults injected",
    "reads excused",
    "violations",
)


@pytest.fixture
def history(request: pytest.FixtureRequest) -> History:
    """An empty history; its seed is printed, and given by ``--consistency-seed``."""
    seed = request.config.getoption("--consistency-seed", default=None)
    history = History(seed=secrets.randbelow(2**31) if seed is None else seed)
    print(f"seed: {history.seed}")  # noqa: T201
    return history


@pytest.fixture
def two_services(serve: Callable[..., Gunicorn]) -> Callable[..., list[Gunicorn]]:
    """Start two services of two workers each: ``two_services(mongodb_uri, VARIABLE=value)``.

    The second has no circuit breaker, so that more requests reach a MongoDB that is failing.
    """

    def start(mongodb_uri: str, **environment: str) -> list[Gunicorn]:
        return [
            serve(mongodb_uri, **environment),
            serve(mongodb_uri, ENABLE_CIRCUIT_BREAKER="false", **environment),
        ]

    return start


@pytest.fixture
def hold(history: History, record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Hold the history against what is promised of a topology: ``hold("replica set")``."""

    def hold(topology: str) -> None:
        report = verify(history, topology)
        record_property("consistency", rows(topology, history, report))

    return hold


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--consistency-seed", type=int, help="what clients and faults choose from")
    tables.add_option(parser, "consistency")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    runs = tables.recorded(terminalreporter, "consistency")
    tables.show(terminalreporter, "consistency", _COLUMNS, chain.from_iterable(runs))
