"""Requests that want to know something at the same moment ask MongoDB once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from portfolio.portfolios.together import Together
from tests.gunicorn import wait_until

VALUES = {"a": 1, "b": 2}


class Asked:
    """A question that notes what it was asked, and runs ``meanwhile`` before it answers."""

    def __init__(self, meanwhile: Callable[[], Any] = lambda: None) -> None:
        self.calls: list[list[str]] = []
        self.meanwhile = meanwhile

    def __call__(self, keys: Sequence[str]) -> dict[str, int]:
        self.calls.append(list(keys))
        self.meanwhile()
        return {key: VALUES[key] for key in keys if key in VALUES}


def at_the_same_moment(asked: Asked, *keys: str, apart: bool = False) -> list[Future[int | None]]:
    """Ask for each of ``keys``: the first leads, and the others come while it yields."""
    answers: list[Future[int | None]] = []

    def others_come(_seconds: float) -> None:
        if len(answers) > 1:
            return  # another leader yields, and nobody comes
        for count, key in enumerate(keys[1:], 2):
            answers.append(pool.submit(party.get, key))
            wait_until(lambda: party.waiting == count or answers[-1].done(), f"{key} is asked for")  # noqa: B023

    party = Together(asked, apart=apart, pause=others_come)
    with ThreadPoolExecutor(len(keys)) as pool:
        answers.append(pool.submit(party.get, keys[0]))
        answers[0].exception()  # the pool takes no more once it is left
    return answers


def test_keys_of_one_moment_are_looked_up_in_one_call() -> None:
    asked = Asked()
    answers = at_the_same_moment(asked, "a", "b", "c")
    assert asked.calls == [["a", "b", "c"]]
    assert [answer.result() for answer in answers] == [1, 2, None]


def test_what_is_asked_after_a_question_was_sent_is_asked_anew() -> None:
    with ThreadPoolExecutor(1) as pool:
        late: list[Future[int | None]] = []

        def ask_again() -> None:
            asked.meanwhile = lambda: None
            late.append(pool.submit(party.get, "a"))
            late[0].result(10)

        asked = Asked(ask_again)
        party = Together(asked)
        assert party.get("a") == 1
    assert late[0].result() == 1
    assert asked.calls == [["a"], ["a"]]


def test_a_failure_reaches_all_who_asked() -> None:
    def fail() -> None:
        raise ConnectionError("gone")

    for answer in at_the_same_moment(Asked(fail), "a", "b"):
        assert isinstance(answer.exception(), ConnectionError)


def test_questions_apart_are_shared_by_those_alone_who_ask_the_very_same() -> None:
    asked = Asked()
    answers = at_the_same_moment(asked, "a", "a", "b", apart=True)
    assert sorted(asked.calls) == [["a"], ["b"]]
    assert [answer.result() for answer in answers] == [1, 1, 2]
