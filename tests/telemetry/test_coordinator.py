"""The pod's own view covers all its workers, and the control file reaches all of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from portfolio.devserver.mongod import Mongod
from portfolio.devserver.processes import free_port
from tests.support.disks import disk
from tests.support.gunicorn import Gunicorn, wait_until
from tests.telemetry.conftest import Script, two_workers


@pytest.fixture(scope="module")
def gunicorn(replica_set: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """A service with two workers, for all tests that leave it running."""
    folder = tmp_path_factory.mktemp("coordinator")
    with two_workers(folder, replica_set.uri, ENVIRONMENT="production") as gunicorn:
        yield gunicorn


@pytest.fixture
def stoppable(replica_set: Mongod, tmp_path: Path) -> Iterator[Gunicorn]:
    """The same for one test, which may stop it."""
    with two_workers(tmp_path, replica_set.uri, ENVIRONMENT="production") as gunicorn:
        yield gunicorn


def get(gunicorn: Gunicorn, path: str) -> Any:
    return requests.get(gunicorn.url + path, timeout=10).json()


def workers(gunicorn: Gunicorn) -> list[dict[str, Any]]:
    """Every worker, as one of them tells."""
    found: list[dict[str, Any]] = get(gunicorn, "/health/detailed")["workers"]
    return found


def test_health_sums_over_both_workers_whichever_is_asked(gunicorn: Gunicorn) -> None:
    for _ in range(40):  # no other test here asks for portfolios
        requests.get(f"{gunicorn.url}/api/v2/portfolios?limit=7", timeout=10)

    def complete() -> Any:
        detailed = get(gunicorn, "/health/detailed")
        checks = detailed["checks"]
        cache, breaker = checks["validation_cache"], checks["circuit_breakers"]["breakers"]
        # A worker may have shown itself in the middle of a request: looked up, not yet answered.
        counts = cache["hits"] + cache["misses"], breaker["database"]["successes"]
        return detailed if counts == (40, 40) else None

    detailed = wait_until(complete, "all forty requests are seen")
    checks, listed = detailed["checks"], detailed["workers"]
    assert {worker["pid"] for worker in listed} == {each.pid for each in gunicorn.workers()}
    assert checks["database"]["pool"]["max"] == 2 * 20
    misses = [worker["validation_cache"]["misses"] for worker in listed]
    assert checks["validation_cache"]["misses"] == sum(misses)
    assert checks["circuit_breakers"]["breakers"]["database"]["state"] == "closed"

    def counted() -> Any:
        found = get(gunicorn, "/health/metrics")["requests"]["endpoints"]
        return found["GET /api/v2/portfolios"]["count"] == 40

    wait_until(counted, "the same in /health/metrics")


def test_a_killed_worker_is_forgotten_and_its_successor_seen(gunicorn: Gunicorn) -> None:
    victim = gunicorn.workers()[0].pid
    os.kill(victim, signal.SIGKILL)

    def replaced() -> bool:
        pids = {worker["pid"] for worker in workers(gunicorn)}
        return len(pids) == 2 and victim not in pids

    wait_until(replaced, "the successor is seen instead of the victim")


def test_a_log_level_reaches_every_worker_and_ends_by_itself(stoppable: Gunicorn) -> None:
    result = stoppable.flask("log-level", "DEBUG", "--for", "1h")
    assert result.stdout == "Applied on 2 of 2 workers\n", result.stderr
    assert {worker["log_level"] for worker in workers(stoppable)} == {"DEBUG"}
    requests.get(f"{stoppable.url}/health", headers={"X-Request-ID": "seen"}, timeout=10)
    stoppable.flask("log-level", "DEBUG", "--for", "1s")
    wait_until(
        lambda: {worker["log_level"] for worker in workers(stoppable)} == {"WARNING"},
        "the level is back",
    )
    requests.get(f"{stoppable.url}/health", headers={"X-Request-ID": "unseen"}, timeout=10)
    stoppable.stop()

    logged = {line["request_id"] for line in stoppable.log_lines() if line["msg"] == "request"}
    assert "seen" in logged
    assert "unseen" not in logged


@pytest.mark.slow
def test_a_reset_closes_an_open_breaker_whichever_worker_it_is_in(
    serve: Callable[..., Gunicorn], tmp_path: Path
) -> None:
    mongod = Mongod(tmp_path / "mongod", port=free_port())
    mongod.start()
    gunicorn = serve(
        mongod.uri,
        DRAIN_SECONDS="1",
        REQUEST_TIMEOUT_MS="300",
        CIRCUIT_BREAKER_FAILURES="1",
        CIRCUIT_BREAKER_RESET_SECONDS="600",
    )
    gunicorn.wait_ready()

    def states() -> list[str]:
        return [worker["circuit_breakers"]["database"]["state"] for worker in workers(gunicorn)]

    wait_until(lambda: len(states()) == 2, "both workers show themselves")
    mongod.kill()

    def any_open() -> bool:
        # At once, so that each worker gets some.
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(gunicorn.status, ["/api/v1/portfolios"] * 8))
        return "open" in states()

    # A worker whose pings fail first refuses calls before they reach its breaker.
    wait_until(any_open, "a breaker opens")
    wait_until(
        lambda: " open " in gunicorn.flask("breakers", "list").stdout,
        "the worker shows so, which it does every two seconds",
    )

    result = gunicorn.flask("breakers", "reset", "database")
    assert result.stdout == "Applied on 2 of 2 workers\n", result.stderr
    assert states() == ["closed", "closed"]


def test_a_breaker_that_does_not_exist_is_named_with_those_that_do(gunicorn: Gunicorn) -> None:
    result = gunicorn.flask("breakers", "reset", "databse")
    assert result.returncode == 1
    assert result.stderr == "Error: There is no breaker 'databse'. Known: database.\n"


def test_where_nothing_runs_commands_say_so(stoppable: Gunicorn) -> None:
    stoppable.stop()
    result = stoppable.flask("breakers", "list")
    assert result.returncode == 1
    assert "is the service running here?" in result.stderr


def test_without_a_writable_folder_a_worker_serves_and_knows_of_itself_alone(
    serve: Callable[..., Gunicorn], replica_set: Mongod, tmp_path: Path
) -> None:
    blocker = tmp_path / "a file"
    blocker.write_text("")
    gunicorn = serve(replica_set.uri, PORTFOLIO_RUNTIME_DIR=str(blocker / "run"))
    gunicorn.wait_ready()
    assert len(workers(gunicorn)) == 1

    def complaints() -> list[int]:
        lines = gunicorn.log_lines()
        return [each["pid"] for each in lines if each["msg"] == "worker state not shared"]

    wait_until(lambda: len(complaints()) == 2, "both workers say so")
    Script(gunicorn.url).mix()
    assert len(set(complaints())) == len(complaints()) == 2, "once a worker"
    blocker.unlink()
    wait_until(lambda: len(workers(gunicorn)) == 2, "both workers use the folder")


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own with no space left."""
    with disk(tmp_path / "full", "size=64k") as folder:
        fill(folder / "filling")
        yield folder


def fill(path: Path) -> None:
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.mark.slow
def test_a_full_disk_takes_the_pods_view_and_nothing_else(
    full_disk: Path, serve: Callable[..., Gunicorn], replica_set: Mongod, database_name: str
) -> None:
    gunicorn = serve(
        replica_set.uri,
        MONGODB_DB=database_name,
        PORTFOLIO_RUNTIME_DIR=str(full_disk),
        TMPDIR=str(full_disk),
        DRAIN_SECONDS="1",
    )
    gunicorn.wait_ready()
    assert len(workers(gunicorn)) == 1
    before = {worker.pid for worker in gunicorn.workers()}
    gunicorn.signal(signal.SIGHUP)

    def reloaded() -> bool:
        now = {worker.pid for worker in gunicorn.workers()}
        return len(now) == 2 and not now & before

    wait_until(reloaded, "two new workers in the place of the old ones")
    after = {worker.pid for worker in gunicorn.workers()}
    gunicorn.wait_ready()
    path = f"{gunicorn.url}/api/v1/portfolios"
    for _ in range(20):
        assert requests.post(path, json={"name": "Growth"}, timeout=10).status_code == 201
        assert requests.get(path, timeout=10).status_code == 200
    assert {worker.pid for worker in gunicorn.workers()} == after, "no worker has died"

    (full_disk / "filling").unlink()
    wait_until(lambda: len(workers(gunicorn)) == 2, "both workers show themselves")
    result = gunicorn.flask("log-level", "DEBUG")
    assert result.stdout == "Applied on 2 of 2 workers\n", result.stderr
    fill(full_disk / "filling")
    result = gunicorn.flask("log-level", "INFO")
    assert result.returncode == 1
    assert "The control file can't be written" in result.stderr
    assert gunicorn.status("/health/detailed") == 200
