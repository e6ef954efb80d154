"""The primary of three members goes, under load; another takes over and nothing is lost."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from portfolio.devserver.mongod import Mongod
from tests.faults.conftest import StartDrill
from tests.support.gunicorn import Gunicorn
from tests.support.mongod import await_primary, set_uri

pytestmark = pytest.mark.slow


def test_the_primary_is_killed(
    three_members: list[Mongod], serve: Callable[..., Gunicorn], drill: StartDrill
) -> None:
    primary, *others = three_members
    uri = set_uri(three_members)
    with drill("primary of three killed -9", [serve(uri)], uri) as under_load:
        under_load.run_for(3)
        primary.kill()
        await_primary(others)
        with under_load.cure():
            pass  # the election was it
        primary.start()
        under_load.run_for(3)


def test_the_primary_steps_down(
    three_members: list[Mongod], serve: Callable[..., Gunicorn], drill: StartDrill
) -> None:
    primary, *others = three_members
    uri = set_uri(three_members)
    with drill("primary of three steps down", [serve(uri)], uri) as under_load:
        under_load.run_for(3)
        with under_load.cure(), primary.client() as client:
            client.admin.command("replSetStepDown", 60, secondaryCatchUpPeriodSecs=10)
            await_primary(others)


def test_the_primary_hangs_and_comes_back_to_find_another_in_its_place(
    three_members: list[Mongod], serve: Callable[..., Gunicorn], drill: StartDrill
) -> None:
    primary, *others = three_members
    uri = set_uri(three_members)
    with drill("primary of three stopped for 20 s (SIGSTOP)", [serve(uri)], uri) as under_load:
        under_load.run_for(3)
        primary.signal(signal.SIGSTOP)
        await_primary(others)
        under_load.run_for(10)
        with under_load.cure():
            primary.signal(signal.SIGCONT)
        under_load.run_for(5)
