"""The network between the service and MongoDB is bad, under load."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from portfolio.devserver.mongod import Mongod
from tests.faults.conftest import StartDrill
from tests.support.gunicorn import Gunicorn
from tests.support.proxy import Proxy

pytestmark = pytest.mark.slow


@pytest.fixture
def network(mongod: Mongod) -> Iterator[Proxy]:
    with Proxy(mongod.port) as proxy:
        yield proxy


def test_answers_are_cut_half_way(
    mongod: Mongod, network: Proxy, serve: Callable[..., Gunicorn], drill: StartDrill
) -> None:
    service = serve(network.uri)
    with drill("network cut half-way through answers", [service], mongod.uri) as under_load:
        under_load.run_for(2)
        network.cut_share = 0.1
        under_load.run_for(4)
        network.cut_share = 1.0
        under_load.run_for(4)
        with under_load.cure():
            network.cut_share = 0.0
    assert network.cuts > 0


def test_answers_take_half_a_second(
    mongod: Mongod, network: Proxy, serve: Callable[..., Gunicorn], drill: StartDrill
) -> None:
    service = serve(network.uri)
    with drill("network slowed to 500 ms", [service], mongod.uri) as under_load:
        under_load.run_for(2)
        network.delay_s = 0.5
        under_load.run_for(10)
        with under_load.cure():
            network.delay_s = 0.0
    assert under_load.ledger.failed == [], "slow is not down"


def test_answers_are_swallowed(
    mongod: Mongod, network: Proxy, serve: Callable[..., Gunicorn], drill: StartDrill
) -> None:
    service = serve(network.uri)
    with drill("network swallows answers", [service], mongod.uri) as under_load:
        under_load.run_for(2)
        network.black_hole = True
        under_load.run_for(8)
        with under_load.cure():
            network.black_hole = False
