"""Readiness follows MongoDB within the 5 s that section 5 of the contract gives, both ways."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from portfolio.devserver.mongod import Mongod
from tests.support.gunicorn import Gunicorn, wait_until

_LIMIT_S = 5.0
# Each probe is a new connection, taken by any worker: so many alike mean that all agree.
_PROBES = 12


def await_readiness(service: Gunicorn, status: int) -> float:
    """Wait until every worker answers with ``status``; return the seconds until the last did."""
    begun = changed = time.monotonic()
    alike = 0
    while alike < _PROBES:
        if service.status("/health/ready") == status:
            alike += 1
        else:
            alike, changed = 0, time.monotonic()
        assert time.monotonic() - begun < 4 * _LIMIT_S, f"readiness never became {status}"
        assert service.status("/health/live") == 200
        time.sleep(0.02)
    return changed - begun


@pytest.mark.slow
def test_readiness_falls_and_rises_with_mongod(
    mongod: Mongod, serve: Callable[..., Gunicorn]
) -> None:
    service = serve(mongod.uri)
    service.wait_ready()
    mongod.kill()
    assert await_readiness(service, 503) < _LIMIT_S
    mongod.start()
    assert await_readiness(service, 200) < _LIMIT_S


@pytest.mark.slow
def test_readiness_falls_and_rises_with_a_mongod_that_hangs(
    mongod: Mongod, serve: Callable[..., Gunicorn]
) -> None:
    service = serve(mongod.uri)
    service.wait_ready()
    mongod.signal(signal.SIGSTOP)
    assert await_readiness(service, 503) < _LIMIT_S
    time.sleep(20)  # long enough for the breaker and for PyMongo to have given up
    mongod.signal(signal.SIGCONT)
    assert await_readiness(service, 200) < _LIMIT_S
    assert not [line for line in service.log_lines() if "exception" in line]


@pytest.mark.slow
def test_readiness_rises_again_after_the_only_member_of_a_set_was_run_as_a_standalone(
    start_mongod: Callable[..., Mongod], serve: Callable[..., Gunicorn]
) -> None:
    mongod = start_mongod(replica_set="rs")
    mongod.initiate()
    service = serve(mongod.uri)
    service.wait_ready()
    mongod.stop()
    mongod.replica_set = None  # as for maintenance
    mongod.start()
    wait_until(
        lambda: "No replica set members available" in service.log.read_text(), "it is dropped"
    )
    assert await_readiness(service, 503) < _LIMIT_S
    mongod.stop()
    mongod.replica_set = "rs"
    mongod.start()
    assert await_readiness(service, 200) < _LIMIT_S


def test_a_service_that_starts_before_mongod_becomes_ready_with_it(
    mongod: Mongod, serve: Callable[..., Gunicorn]
) -> None:
    mongod.kill()
    service = serve(mongod.uri)
    assert service.status("/health/startup") == 503
    assert service.status("/health/ready") == 503
    mongod.start()
    assert await_readiness(service, 200) < _LIMIT_S
    wait_until(lambda: service.status("/health/startup") == 200, "the service has started")
