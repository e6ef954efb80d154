"""One run: clients at work while things go wrong, then what is stored at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import requests
from pymongo import MongoClient, WriteConcern
from pymongo.read_concern import ReadConcern

from tests.consistency.checker import Promises, Report, check
from tests.consistency.clients import Clients
from tests.consistency.history import (
    AT_END,
    History,
    Kind,
    Operation,
    Outcome,
    State,
    states_of,
)
from tests.consistency.nemesis import Nemesis
from tests.support.gunicorn import ROOT, Gunicorn, wait_until

# Beyond the service's own deadline: a client that waited for it is told 503.
_PATIENCE_S = 5.0
# What is undone or completed after an outage is tried each second.
_SETTLED_S = 3.0
_SETTLE_TIMEOUT_S = 40.0
_SHOWN = 20
_NEEDED = {Kind.CREATE, Kind.CREATE_ONCE, Kind.READ, Kind.UPDATE}

# What docs/faults.md says of each topology.
PROMISES = {
    "replica set": Promises(stale_s=2.0),
    "standalone": Promises(transactions=False),
}


def record(
    history: History,
    services: Sequence[Gunicorn],
    nemesis: Nemesis,
    faults: Sequence[str],
    *,
    mongodb_uri: str,
    request_timeout_s: float,
) -> None:
    """Let clients work while faults are injected; record what they saw and what is stored then.

    Args:
        history: where everything is recorded.
        services: the instances of the service, started.
        nemesis: injects the faults.
        faults: their names, in order.
        mongodb_uri: where to look at the end.
        request_timeout_s: the deadline of the services.
    """
    for service in services:
        service.wait_ready()
    urls = [service.url for service in services]
    with Clients(urls, history, timeout_s=request_timeout_s + _PATIENCE_S):
        nemesis.run(faults)
    for service in services:
        service.wait_ready()
    _record_end(history, services, mongodb_uri)


def verify(history: History, topology: str) -> Report:
    """Check a history, and keep it in ``build/consistency``.

    Raises:
        AssertionError: it breaks a promise; the message names the first of them.
    """
    folder = ROOT / "build" / "consistency"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{topology.replace(' ', '-')}.jsonl"
    history.save(path)
    report = check(history, PROMISES[topology])
    succeeded = {each.kind for each in history.operations if each.outcome is Outcome.OK}
    assert succeeded >= _NEEDED, "a history in which nothing succeeds proves nothing"
    found = report.violations
    shown = "\n".join(map(str, found[:_SHOWN]))
    assert not found, f"{len(found)} violations, seed {history.seed}, history {path}\n{shown}"
    return report


def _record_end(history: History, services: Sequence[Gunicorn], mongodb_uri: str) -> None:
    """Record what is stored, and the list of all by each service; nothing changes meanwhile."""
    deadline = time.monotonic() + _SETTLE_TIMEOUT_S
    client: MongoClient[dict[str, Any]] = MongoClient(mongodb_uri)
    with client:
        while True:
            history.final = _stored(client)
            lists = [_read_all(service, number) for number, service in enumerate(services)]
            time.sleep(_SETTLED_S)
            if _stored(client) == history.final:
                break
            assert time.monotonic() < deadline, "what is stored still changes"
    history.operations += lists


def _stored(client: MongoClient[dict[str, Any]]) -> dict[str, State]:
    """Return what is stored once a majority has all that the primary has."""
    # Where replication lags, a majority does not have yet what clients were answered 503 for. This
    # write is acknowledged after all that the primary has written before it.
    barrier = client["consistency"].get_collection(
        "barrier", write_concern=WriteConcern("majority", j=True)
    )
    barrier.insert_one({})
    portfolios = client["portfolio"].get_collection(
        "portfolio", read_concern=ReadConcern("majority")
    )
    states = (State(str(each["_id"]), each["version"], each["name"]) for each in portfolios.find())
    return {state.portfolio: state for state in states}


def _read_all(service: Gunicorn, number: int) -> Operation:
    """Read the list of all through ``service``."""
    path = f"{service.url}/api/v1/portfolios"

    def answer() -> tuple[float, requests.Response] | None:
        started, response = time.monotonic(), requests.get(path, timeout=30)
        return (started, response) if response.status_code == 200 else None

    started, response = wait_until(answer, "the list of all is answered")
    return Operation(
        number=-1 - number,
        client=AT_END,
        kind=Kind.PAGE,
        started=started,
        ended=time.monotonic(),
        outcome=Outcome.OK,
        status=200,
        answer="200",
        states=states_of(response.json()),
    )


def rows(topology: str, history: History, report: Report) -> list[list[str]]:
    """Return a run as rows of a table: one of each kind of operation, and one of all."""
    outcomes = Counter((each.kind, each.outcome) for each in history.operations)
    faults = Counter(fault.name for fault in history.faults)
    table = [
        [topology, kind.value, *(str(outcomes[kind, outcome]) for outcome in Outcome), "", "", ""]
        for kind in Kind
    ]
    totals = [str(sum(outcomes[kind, outcome] for kind in Kind)) for outcome in Outcome]
    injected = "; ".join(f"{fault}: {count}" for fault, count in faults.items())
    stale = f"{len(report.stale)} stale, {len(report.exposed)} undone"
    table.append([topology, "all", *totals, injected, stale, str(len(report.violations))])
    return table
