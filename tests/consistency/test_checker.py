"""The checker rejects every history that breaks a promise, and accepts those that break none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.consistency.checker import Promises, Rule, check
from tests.consistency.history import (
    AT_END,
    CREATIONS,
    Fault,
    History,
    Kind,
    Operation,
    Outcome,
    State,
)

_STATUSES = {Kind.DELETE: 204} | dict.fromkeys(CREATIONS, 201)
_REFUSED = {404: "404 Portfolio not found", 409: "409 Version conflict"}
_IN_USE = "409 A request with this Idempotency-Key is in flight"
_PROMISES = Promises()
_STANDALONE = Promises(transactions=False)


class Story:
    """A history in the making: operations take half a second each, one after the other."""

    def __init__(self) -> None:
        self.history = History(seed=0)
        self._clock = 0.0

    def create(self, *names: str, portfolios: str = "", key: str = "", **given: Any) -> None:
        """Create portfolios with the given names and, in their order, one-letter ids."""
        kinds = [Kind.CREATE, Kind.BULK, Kind.CREATE_ONCE, Kind.BULK_ONCE]
        kind = kinds[(len(names) > 1) + 2 * bool(key)]
        pairs = zip(portfolios, names, strict=False)
        states = tuple(State(portfolio, 1, name) for portfolio, name in pairs)
        self.add(kind, names=names, key=key, states=states, **given)

    def update(self, portfolio: str, version: int, name: str, **given: Any) -> None:
        """Update ``version`` of a portfolio, giving it a new name."""
        states = (State(portfolio, version + 1, name),)
        asked: dict[str, Any] = {"portfolio": portfolio, "version": version, "names": (name,)}
        self.add(Kind.UPDATE, states=states, **asked, **given)

    def delete(self, portfolio: str, version: int, **given: Any) -> None:
        """Delete ``version`` of a portfolio."""
        self.add(Kind.DELETE, portfolio=portfolio, version=version, **given)

    def read(self, portfolio: str, version: int, name: str, **given: Any) -> None:
        """Read a portfolio."""
        states = (State(portfolio, version, name),)
        self.add(Kind.READ, portfolio=portfolio, states=states, **given)

    def miss(self, portfolio: str, **given: Any) -> None:
        """Read a portfolio and do not find it."""
        self.add(Kind.READ, portfolio=portfolio, status=404, **given)

    def search(self, portfolio: str, version: int, name: str, *found: State) -> None:
        """Search for a portfolio by its name."""
        asked: dict[str, Any] = {"portfolio": portfolio, "version": version, "names": (name,)}
        self.add(Kind.SEARCH, states=found, **asked)

    def add(
        self,
        kind: Kind,
        *,
        status: int | None = None,
        answer: str = "",
        lasts: float = 0.5,
        client: int = 1,
        states: tuple[State, ...] = (),
        **asked: Any,
    ) -> None:
        """Add an operation; the answer shows ``states`` only where it is a success."""
        status = _STATUSES.get(kind, 200) if status is None else status
        outcome = Outcome.OK
        if status in (0, 500, 503):
            outcome = Outcome.INDETERMINATE
        elif status >= 400 and kind is not Kind.READ:
            outcome = Outcome.REFUSED
        if outcome is not Outcome.OK or status == 404:
            states = ()
        started = self._clock
        self._clock += 1.0
        operation = Operation(
            number=len(self.history.operations) + 1,
            client=client,
            kind=kind,
            started=started,
            ended=started + lasts,
            outcome=outcome,
            status=status,
            answer=answer or _REFUSED.get(status, str(status)),
            states=states,
            **asked,
        )
        self.history.operations.append(operation)

    def end(self, *states: State) -> History:
        """Return the history, with what is stored at its end."""
        self.history.final = {state.portfolio: state for state in states}
        return self.history


@pytest.fixture
def story() -> Story:
    """A history in which nothing has happened yet."""
    return Story()


def rules(history: History, promises: Promises = _PROMISES) -> list[Rule]:
    """Return the rules that a history breaks."""
    return [violation.rule for violation in check(history, promises).violations]


def test_everything_at_once_done_right_is_accepted(story: Story) -> None:
    story.create("one", portfolios="a")
    story.create("two", "three", portfolios="bc", key="k")
    story.create("two", "three", portfolios="bc", key="k")
    story.read("a", 1, "one")
    story.update("a", 1, "one u1", status=503)
    story.read("a", 1, "one")
    story.update("a", 1, "one u2", status=409)  # the first has landed by now
    story.read("a", 2, "one u1")
    story.search("a", 2, "one u1", State("a", 2, "one u1"))
    story.delete("b", 1)
    story.delete("b", 1, status=404)
    story.miss("b")
    story.create("four", status=503)
    story.create("five", key="five", status=0)
    story.create("five", key="five", status=409, answer=_IN_USE)
    assert rules(story.end(State("a", 2, "one u1"), State("c", 1, "three"))) == []


def test_what_is_in_progress_at_the_same_time_may_be_seen_in_either_order(story: Story) -> None:
    story.create("one", portfolios="a")
    story.update("a", 1, "one u1", lasts=9.0)
    story.read("a", 2, "one u1", lasts=5.0)
    story.read("a", 1, "one")  # began before the other read had ended
    assert rules(story.end(State("a", 2, "one u1"))) == []


@pytest.mark.parametrize("key", ["", "k"])
def test_an_acknowledged_creation_that_is_gone_is_rejected(story: Story, key: str) -> None:
    story.create("one", status=503, key=key)
    story.create("one" if key else "two", portfolios="a", key=key)
    assert rules(story.end()) == [Rule.LOST]


def test_an_acknowledged_update_that_is_gone_is_rejected(story: Story) -> None:
    story.create("one", portfolios="a")
    story.update("a", 1, "one u1")
    assert rules(story.end(State("a", 1, "one"))) == [Rule.LOST]


def test_a_delete_of_an_older_version_does_not_explain_a_lost_update(story: Story) -> None:
    story.create("one", portfolios="a")
    story.update("a", 1, "one u1")
    story.delete("a", 1, status=503)
    assert rules(story.end()) == [Rule.LOST]


def test_an_acknowledged_delete_that_is_undone_is_rejected(story: Story) -> None:
    story.create("one", portfolios="a")
    story.delete("a", 1)
    assert rules(story.end(State("a", 1, "one"))) == [Rule.LOST]


def test_two_winners_of_one_version_are_rejected(story: Story) -> None:
    story.create("one", portfolios="a")
    story.update("a", 1, "one u1")
    story.update("a", 1, "one u2")
    story.update("a", 2, "one u3")
    assert set(rules(story.end(State("a", 3, "one u3")))) == {Rule.CHAIN}


def test_an_update_and_a_delete_of_one_version_are_rejected(story: Story) -> None:
    story.create("one", portfolios="a")
    story.update("a", 1, "one u1")
    story.delete("a", 1)
    assert Rule.CHAIN in rules(story.end())


def test_an_acknowledged_update_that_another_has_replaced_is_rejected(story: Story) -> None:
    story.create("one", portfolios="a")
    story.update("a", 1, "one u1")
    story.update("a", 1, "one u2", status=503)
    assert rules(story.end(State("a", 2, "one u2"))) == [Rule.CHAIN]


def test_a_version_that_no_update_led_to_is_rejected(story: Story) -> None:
    story.create("one", portfolios="a")
    story.update("a", 2, "one u1")
    assert rules(story.end(State("a", 3, "one u1"))) == [Rule.CHAIN]


def test_a_read_of_an_update_that_is_undone_is_rejected(story: Story) -> None:
    story.create("one", portfolios="a")
    story.update("a", 1, "one u1", status=503)
    story.read("a", 2, "one u1")
    assert rules(story.end(State("a", 1, "one"))) == [Rule.ROLLED_BACK]


def test_a_read_of_an_update_that_another_has_replaced_is_rejected(story: Story) -> None:
    story.create("one", portfolios="a")
    story.update("a", 1, "one u1", status=503)
    story.read("a", 2, "one u1")
    story.update("a", 1, "one u2")
    story.update("a", 2, "one u3")
    assert rules(story.end(State("a", 3, "one u3"))) == [Rule.ROLLED_BACK]


def test_a_read_of_a_creation_that_is_undone_is_rejected(story: Story) -> None:
    story.create("one", status=503)
    story.add(Kind.PAGE, states=(State("a", 1, "one"),))
    assert rules(story.end()) == [Rule.ROLLED_BACK]


def test_a_read_of_what_a_delete_may_have_taken_is_accepted(story: Story) -> None:
    story.create("one", status=503)
    story.add(Kind.PAGE, states=(State("a", 1, "one"),))
    story.delete("a", 1, status=0)
    assert rules(story.end()) == []


@pytest.mark.parametrize("client", [1, 2])
def test_a_read_that_goes_backwards_is_rejected(story: Story, client: int) -> None:
    story.create("one", portfolios="a")
    story.update("a", 1, "one u1")
    story.read("a", 1, "one", client=client)
    assert rules(story.end(State("a", 2, "one u1"))) == [Rule.BACKWARDS]


def test_a_portfolio_that_is_not_found_though_it_is_there_is_rejected(story: Story) -> None:
    story.create("one", portfolios="a")
    story.miss("a")
    assert rules(story.end(State("a", 1, "one"))) == [Rule.BACKWARDS]


def test_a_name_that_is_not_found_though_it_is_there_is_rejected(story: Story) -> None:
    story.create("one", portfolios="a")
    story.search("a", 1, "one")
    assert rules(story.end(State("a", 1, "one"))) == [Rule.BACKWARDS]


def test_a_portfolio_that_is_read_after_it_was_deleted_is_rejected(story: Story) -> None:
    story.create("one", portfolios="a")
    story.delete("a", 1)
    story.read("a", 1, "one")
    assert rules(story.end()) == [Rule.BACKWARDS]


def test_a_stale_read_is_excused_only_while_the_primary_changes(story: Story) -> None:
    story.create("one", portfolios="a")
    story.update("a", 1, "one u1")
    story.read("a", 1, "one")  # at 2.0 to 2.5
    history = story.end(State("a", 2, "one u1"))
    history.elections = [4.0]
    assert rules(history, Promises(stale_s=1.0)) == [Rule.BACKWARDS]
    report = check(history, Promises(stale_s=2.0))
    assert report.violations == []
    assert report.stale == [history.operations[-1]]


@pytest.mark.parametrize("status", [201, 503, 0])
def test_a_bulk_that_is_there_by_half_is_rejected(story: Story, status: int) -> None:
    story.create("one", "two", portfolios="ab", status=status)
    assert Rule.WHOLE in rules(story.end(State("a", 1, "one")), _STANDALONE)


@pytest.mark.parametrize("stored", [True, False])
def test_a_bulk_without_an_answer_is_accepted_where_it_is_whole(story: Story, stored: bool) -> None:
    story.create("one", "two", status=0)
    end = [State("a", 1, "one"), State("b", 1, "two")] if stored else []
    assert rules(story.end(*end)) == []


def test_a_bulk_of_which_one_was_deleted_is_whole(story: Story) -> None:
    story.create("one", "two", status=0)
    story.add(Kind.PAGE, states=(State("a", 1, "one"),))
    story.delete("a", 1)
    assert rules(story.end(State("b", 1, "two"))) == []


def test_a_key_that_creates_twice_is_rejected(story: Story) -> None:
    story.create("one", portfolios="a", key="k")
    story.create("one", portfolios="b", key="k")
    assert rules(story.end(State("a", 1, "one"), State("b", 1, "one"))) == [Rule.ONCE]


def test_an_attempt_without_an_answer_that_creates_beside_another_is_rejected(story: Story) -> None:
    story.create("one", status=0, key="k")
    story.create("one", portfolios="b", key="k")
    assert rules(story.end(State("a", 1, "one"), State("b", 1, "one"))) == [Rule.ONCE]


def test_an_update_that_was_refused_and_applied_is_rejected(story: Story) -> None:
    story.create("one", portfolios="a")
    story.update("a", 1, "one u1", status=0)
    story.update("a", 1, "one u2", status=409)
    assert rules(story.end(State("a", 2, "one u2"))) == [Rule.REFUSED]


def test_a_conflict_with_nothing_is_rejected(story: Story) -> None:
    story.create("one", portfolios="a")
    story.update("a", 1, "one u1", status=409)
    assert rules(story.end(State("a", 1, "one"))) == [Rule.REFUSED]


def test_a_change_that_is_refused_as_not_found_is_rejected(story: Story) -> None:
    story.create("one", portfolios="a")
    story.delete("a", 1, status=404)
    assert rules(story.end(State("a", 1, "one"))) == [Rule.REFUSED]


def test_a_creation_that_is_refused_for_its_new_name_is_rejected(story: Story) -> None:
    story.create("one", "two", status=409, answer="409 Portfolio names already exist: one")
    assert rules(story.end()) == [Rule.ANSWER]


@pytest.mark.parametrize("status", [500, 422, 404])
def test_an_answer_that_the_contract_does_not_have_is_rejected(story: Story, status: int) -> None:
    story.create("one", status=status)
    assert rules(story.end()) == [Rule.ANSWER]


def test_an_answer_that_shows_something_else_is_rejected(story: Story) -> None:
    story.create("one", portfolios="a")
    asked: dict[str, Any] = {"portfolio": "a", "version": 1, "names": ("one u1",)}
    story.add(Kind.UPDATE, states=(State("a", 3, "one u1"),), **asked)
    assert Rule.ANSWER in rules(story.end(State("a", 3, "one u1")))


def test_a_portfolio_that_nobody_wrote_is_rejected(story: Story) -> None:
    assert rules(story.end(State("a", 1, "one"))) == [Rule.ANSWER]


def test_a_list_at_the_end_that_is_what_is_stored_is_accepted(story: Story) -> None:
    story.create("one", "two", portfolios="ab")
    stored = (State("a", 1, "one"), State("b", 1, "two"))
    story.add(Kind.PAGE, client=AT_END, states=stored)
    assert rules(story.end(*stored)) == []


@pytest.mark.parametrize("listed", ["", "a", "aab", "abb"])
def test_a_list_at_the_end_that_is_not_what_is_stored_is_rejected(
    story: Story, listed: str
) -> None:
    story.create("one", "two", portfolios="ab")
    stored = {"a": State("a", 1, "one"), "b": State("b", 1, "two")}
    story.add(Kind.PAGE, client=AT_END, states=tuple(stored[each] for each in listed))
    assert rules(story.end(*stored.values())) == [Rule.LISTED]


def test_a_list_at_the_end_without_an_update_is_rejected(story: Story) -> None:
    story.create("one", portfolios="a")
    story.update("a", 1, "one u1", status=503)
    story.add(Kind.PAGE, client=AT_END, states=(State("a", 1, "one"),))
    assert rules(story.end(State("a", 2, "one u1"))) == [Rule.LISTED]


def test_a_standalone_may_show_a_bulk_that_it_undoes(story: Story) -> None:
    story.create("one", "two", status=503)
    story.add(Kind.PAGE, states=(State("a", 1, "one"),))
    history = story.end()
    assert rules(history) == [Rule.ROLLED_BACK]
    report = check(history, _STANDALONE)
    assert report.violations == []
    assert report.exposed == [State("a", 1, "one")]


@pytest.mark.parametrize(("crash", "broken"), [(1.7, []), (3.0, [Rule.ROLLED_BACK])])
def test_a_standalone_may_show_what_is_in_progress_when_it_is_killed(
    story: Story, crash: float, broken: list[Rule]
) -> None:
    story.create("one", portfolios="a")
    story.update("a", 1, "one u1", status=0, lasts=0.9)
    story.read("a", 2, "one u1")
    history = story.end(State("a", 1, "one"))
    read = history.operations.pop()
    history.operations.append(_moved(read, 1.6))
    history.faults = [Fault("killed", crash, crash + 1.0, crash=True)]
    assert rules(history, _STANDALONE) == broken
    assert rules(history) == [Rule.ROLLED_BACK]


def test_a_violation_names_its_rule_its_portfolio_and_its_operations(story: Story) -> None:
    story.create("one", portfolios="a")
    [violation] = check(story.end(), _PROMISES).violations
    assert str(violation).splitlines() == [
        "LOST (no acknowledged write is lost): portfolio a: "
        "version 1 was acknowledged, but at the end it is not stored",
        "    #1 client 1 0.000 to 0.500: create one -> 201",
    ]


def test_a_history_that_is_kept_in_a_file_is_the_same(story: Story, tmp_path: Path) -> None:
    story.create("one", "two", portfolios="ab", key="k")
    story.update("a", 1, "one u1", status=503)
    history = story.end(State("a", 1, "one"), State("b", 1, "two"))
    history.faults = [Fault("killed", 1.0, 2.0, crash=True)]
    history.elections = [1.5]
    history.save(tmp_path / "history.jsonl")
    assert History.load(tmp_path / "history.jsonl") == history


def _moved(operation: Operation, started: float) -> Operation:
    fields = {name: getattr(operation, name) for name in Operation.__slots__}
    return Operation(**fields | {"started": started, "ended": started + 0.05})
