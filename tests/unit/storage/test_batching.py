"""Callers that ask at the same moment share one query, but no deadline and no failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest

from portfolio.errors import DeadlineExceeded
from portfolio.scheduling import budget
from portfolio.storage.batching import BatchLoader
from tests.support.gunicorn import wait_until

VALUES = {"a": 1, "b": 2}


class Loads:
    """A query that notes the keys of each call and runs ``meanwhile`` before it answers."""

    def __init__(self, meanwhile: Callable[[], Any] = lambda: None) -> None:
        self.calls: list[list[str]] = []
        self.meanwhile = meanwhile

    def __call__(self, keys: Sequence[str]) -> dict[str, int]:
        self.calls.append(list(keys))
        self.meanwhile()
        return {key: VALUES[key] for key in keys if key in VALUES}


def at_the_same_moment(
    load: Loads,
    *keys: str,
    group: Callable[[str], Any] = lambda _: None,
    budgets: Sequence[float] = (),
) -> list[Future[int | None]]:
    """Ask for each of ``keys``: the first leads, and the others join while it pauses.

    Args:
        load: the query.
        keys: one a caller.
        group: what the keys of one batch have in common.
        budgets: the seconds that each caller has; five by default.
    """
    budgets = budgets or [5.0] * len(keys)
    answers: list[Future[int | None]] = []

    def ask(key: str, seconds: float) -> int | None:
        with budget(seconds):
            return loader.get(key, group(key))

    def others_join(_seconds: float) -> None:
        if len(answers) > 1:
            return  # another leader pauses, and nobody joins
        for count, key in enumerate(keys[1:], 2):
            answers.append(pool.submit(copy_context().run, ask, key, budgets[count - 1]))
            wait_until(
                lambda: loader.waiting == count or answers[-1].done(),  # noqa: B023
                f"{key} is asked for",
            )

    loader = BatchLoader(load, pause=others_join)
    with ThreadPoolExecutor(len(keys)) as pool:
        answers.append(pool.submit(copy_context().run, ask, keys[0], budgets[0]))
        answers[0].exception()  # the pool takes no more once it is left
    return answers


def test_keys_of_one_moment_are_loaded_with_one_query() -> None:
    load = Loads()
    answers = at_the_same_moment(load, "a", "b", "c")
    assert load.calls == [["a", "b", "c"]]
    assert [answer.result() for answer in answers] == [1, 2, None]


def test_who_asks_after_a_query_was_sent_gets_a_newer_one() -> None:
    with ThreadPoolExecutor(1) as pool:
        late: list[Future[int | None]] = []

        def ask_again() -> None:
            load.meanwhile = lambda: None
            late.append(pool.submit(loader.get, "a"))
            late[0].result(10)

        load = Loads(ask_again)
        loader = BatchLoader(load)
        assert loader.get("a") == 1
    assert late[0].result() == 1
    assert load.calls == [["a"], ["a"]]


def test_a_query_that_fails_fails_its_leader_alone() -> None:
    def fail_once() -> None:
        load.meanwhile = lambda: None
        raise ConnectionError("gone")

    load = Loads(fail_once)
    leader, *followers = at_the_same_moment(load, "a", "b", "c")
    assert isinstance(leader.exception(), ConnectionError)
    assert [follower.result() for follower in followers] == [2, None]


def test_each_caller_gets_an_error_of_its_own() -> None:
    def fail() -> None:
        raise ConnectionError("gone")

    errors = [answer.exception() for answer in at_the_same_moment(Loads(fail), "a", "b", "c")]
    assert all(isinstance(error, ConnectionError) for error in errors)
    assert len(set(map(id, errors))) == 3


def test_a_follower_waits_no_longer_than_its_own_deadline() -> None:
    followers: list[Future[int | None]] = []

    def answer_when_the_follower_has_given_up() -> None:
        wait_until(followers[0].done, "the follower gives up", 10)

    def join(_seconds: float) -> None:
        def ask() -> int | None:
            with budget(0.1):
                return loader.get("b")

        followers.append(pool.submit(copy_context().run, ask))
        wait_until(lambda: loader.waiting == 2, "the follower joins")

    loader = BatchLoader(Loads(answer_when_the_follower_has_given_up), pause=join)
    with ThreadPoolExecutor(1) as pool:
        assert loader.get("a") == 1
    assert isinstance(followers[0].exception(), DeadlineExceeded)


class Interrupt(BaseException):
    """What ends a caller from outside."""


def test_a_leader_that_is_interrupted_leaves_no_batch_behind() -> None:
    interrupts: list[type[Interrupt]] = [Interrupt]

    def interrupt_once(_seconds: float) -> None:
        if interrupts:
            raise interrupts.pop()

    loader = BatchLoader(Loads(), pause=interrupt_once)
    with pytest.raises(Interrupt):
        loader.get("a")
    assert loader.waiting == 0
    assert loader.get("a") == 1


def test_a_single_flight_is_shared_by_those_alone_who_ask_the_very_same() -> None:
    load = Loads()
    answers = at_the_same_moment(load, "a", "a", "b", group=lambda key: key)
    assert sorted(load.calls) == [["a"], ["b"]]
    assert [answer.result() for answer in answers] == [1, 1, 2]
