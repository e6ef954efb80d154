"""What fault tests share: servers to break, the drill around each fault, the table of drills."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection

from portfolio.devserver.mongod import Mongod
from portfolio.devserver.processes import free_port
from tests.support import tables
from tests.support.gunicorn import Gunicorn, wait_until
from tests.support.harness import RECOVERY_S, Ledger, Load, audit
from tests.support.mongod import TEST_PARAMETERS, is_primary

_COLUMNS = (
    "fault",
    "requests",
    "accepted writes",
    "lost",
    "wrong",
    "5xx and no answers, by kind",
    "slowest answer, s",
    "seconds to recover",
)
# Libraries tell of failures in their background threads with a traceback; requests are ours.
_OUR_LOGGERS = ("portfolio", "gunicorn")
# How long a bulk that could not be undone during an outage may take to be undone after it.
_UNDO_S = 10.0


class Drill:
    """Load on a service during which a test breaks something and repairs it.

    Args:
        urls: the instances of the service.
        load_options: for ``Load``.
    """

    def __init__(self, urls: Sequence[str], **load_options: Any) -> None:
        self._urls = urls
        self._load = Load(urls, **load_options)
        self._load.start()
        self.ledger = Ledger()
        self.recovery_s = 0.0

    def run_for(self, seconds: float) -> None:
        """Let the load run."""
        self._load.run_for(seconds)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Have no client send anything inside."""
        self._load.pause()
        try:
            yield
        finally:
            self._load.start()

    @contextmanager
    def more_load(self, **load_options: Any) -> Iterator[None]:
        """Have more clients work for a while, for whom recovery is not awaited."""
        more = Load(self._urls, **load_options)
        more.start()
        try:
            yield
        finally:
            self.ledger.add(more.stop())

    def stop(self) -> Ledger:
        """Stop the load and return what all clients did and saw."""
        self.ledger.add(self._load.stop())
        return self.ledger

    def unsure_of(self, names: list[str]) -> None:
        """Have the audit look at a creation of the test's own, which never was answered."""
        self.ledger.unsure.append(names)

    @contextmanager
    def cure(self) -> Iterator[None]:
        """Repair things inside; then wait until every client is served again."""
        begun = time.monotonic()
        yield
        self.recovery_s = self._load.recover(begun)


StartDrill = Callable[..., AbstractContextManager[Drill]]


@pytest.fixture
def start_mongod(tmp_path: Path) -> Iterator[Callable[..., Mongod]]:
    """Start a MongoDB that the test may break: ``start_mongod(replica_set="rs")``."""
    started: list[Mongod] = []

    def start(parameters: Mapping[str, str] | None = None, **options: Any) -> Mongod:
        parameters = TEST_PARAMETERS | dict(parameters or {})
        folder = tmp_path / f"mongod-{len(started)}"
        mongod = Mongod(folder, port=free_port(), parameters=parameters, **options)
        started.append(mongod)
        mongod.start()
        return mongod

    yield start
    for mongod in started:
        mongod.kill()


@pytest.fixture
def mongod(start_mongod: Callable[..., Mongod]) -> Mongod:
    """A standalone that the test may break."""
    return start_mongod()


@pytest.fixture
def three_members(start_mongod: Callable[..., Mongod]) -> list[Mongod]:
    """A replica set of three members, the primary first."""
    members = [start_mongod(replica_set="rs") for _ in range(3)]
    members[0].initiate(*members[1:])

    def all_follow() -> bool:
        with members[0].client() as client:
            states = [m["stateStr"] for m in client.admin.command("replSetGetStatus")["members"]]
        return sorted(states) == ["PRIMARY", "SECONDARY", "SECONDARY"]

    wait_until(all_follow, "two secondaries follow the primary")
    return sorted(members, key=lambda member: not is_primary(member))


@pytest.fixture
def drill(record_property: Callable[[str, object], None]) -> StartDrill:
    """Hold a drill: ``with drill("what breaks", [service], uri) as under_load: ...``.

    At the end every acknowledged write must be there, and no answer may have been wrong; what was
    seen goes into the table.
    """

    @contextmanager
    def start(
        fault: str, services: Sequence[Gunicorn], mongodb_uri: str, **load_options: Any
    ) -> Iterator[Drill]:
        for service in services:
            service.wait_ready()
        drill = Drill([service.url for service in services], **load_options)
        try:
            yield drill
        finally:
            ledger = drill.stop()
        with MongoClient(mongodb_uri) as client:
            _await_undone(ledger, client["portfolio"]["portfolio"])
            audit(ledger, client["portfolio"]["portfolio"].find())
        record_property("fault", _row(fault, ledger, drill.recovery_s))
        assert ledger.accepted > 0
        assert ledger.lost == []
        assert ledger.wrong == []
        assert drill.recovery_s <= RECOVERY_S
        for service in services:
            assert tracebacks(service) == []

    return start


def tracebacks(service: Gunicorn) -> list[dict[str, Any]]:
    """Return the lines of its log in which the service itself tells of an exception."""
    return [
        line
        for line in service.log_lines()
        if "exception" in line and line["logger"].startswith(_OUR_LOGGERS)
    ]


def _await_undone(ledger: Ledger, collection: Collection[dict[str, Any]]) -> None:
    """Wait, as long as it may take, until no bulk without an answer is there by half."""

    def none_is_half() -> bool:
        bulks = [names for names in ledger.unsure if len(names) > 1]
        found = (collection.count_documents({"name": {"$in": names}}) for names in bulks)
        return all(count in (0, len(names)) for count, names in zip(found, bulks, strict=True))

    try:
        wait_until(none_is_half, "no bulk is half there", _UNDO_S)
    except AssertionError:
        return  # the audit names the bulk


def _row(fault: str, ledger: Ledger, recovery_s: float) -> list[str]:
    kinds = Counter(kind for _, kind in ledger.failures)
    failures = "; ".join(f"{kind}: {count}" for kind, count in kinds.most_common())
    return [
        fault,
        str(ledger.requests),
        str(ledger.accepted),
        str(len(ledger.lost)),
        str(len(ledger.wrong)),
        failures or "none",
        f"{ledger.slowest_s:.1f}",
        f"{recovery_s:.1f}",
    ]


def pytest_addoption(parser: pytest.Parser) -> None:
    tables.add_option(parser, "faults")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    rows = tables.recorded(terminalreporter, "fault")
    tables.show(terminalreporter, "faults", _COLUMNS, rows, tables.machine())
