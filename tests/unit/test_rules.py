"""The rules for bulks, names and searches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio.errors import BadRequest
from portfolio.models import PortfolioCreate, Search
from portfolio.rules import INVALID_NAME, check_bulk, check_bulk_size, check_search


def creates(*names: str) -> list[PortfolioCreate]:
    return [PortfolioCreate(name) for name in names]


def test_a_bulk_names_each_duplicate_once_and_as_it_first_stood() -> None:
    bulk = creates("Growth", "value", " GROWTH ", "Value", "growth", "Income")
    with pytest.raises(BadRequest) as refusal:
        check_bulk(bulk)
    assert refusal.value.detail == "Duplicate portfolio names found in request: Growth, value"


@given(st.lists(st.text(st.sampled_from("aAbB _-"), min_size=1, max_size=3), max_size=6))
def test_a_bulk_is_taken_exactly_if_its_names_differ_trimmed_and_without_case(
    names: list[str],
) -> None:
    folded = [name.strip().upper() for name in names]
    valid = bool(names) and "" not in folded and len(set(folded)) == len(folded)
    try:
        check_bulk(creates(*names))
    except BadRequest:
        assert not valid
    else:
        assert valid


def test_a_name_of_a_bulk_that_breaks_the_format_is_refused() -> None:
    with pytest.raises(BadRequest) as refusal:
        check_bulk(creates("Growth", "Größe"))
    assert refusal.value.detail == INVALID_NAME


@pytest.mark.parametrize("count", [1, 100])
def test_a_bulk_may_have_1_to_100_portfolios(count: int) -> None:
    check_bulk_size(count)


@pytest.mark.parametrize(
    ("count", "detail"),
    [
        (0, "Request must contain at least 1 portfolio"),
        (101, "Request cannot contain more than 100 portfolios"),
    ],
)
def test_a_bulk_of_another_size_is_refused(count: int, detail: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        check_bulk_size(count)
    assert refusal.value.detail == detail


@pytest.mark.parametrize(
    ("search", "detail"),
    [
        (
            Search(name="a", name_like="b"),
            "Only one search parameter allowed: name or name_like",
        ),
        (Search(name="", name_like=""), "Only one search parameter allowed: name or name_like"),
        (Search(name=""), "Search parameter cannot be empty"),
        (Search(name_like=" \t"), "Search parameter cannot be empty"),
        (Search(name="a.*"), INVALID_NAME),
        (Search(name_like="x" * 201), INVALID_NAME),
    ],
)
def test_a_search_that_breaks_a_rule_is_told_which(search: Search, detail: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        check_search(search)
    assert refusal.value.detail == detail
