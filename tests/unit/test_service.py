"""The rules for portfolios, without HTTP and without a database."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio.errors import BadRequest
from portfolio.models import PortfolioCreate, Search
from portfolio.rules import INVALID_NAME, check_bulk, check_bulk_size, check_search
from portfolio.service import PortfolioService
from portfolio.storage.repository import PortfolioRepository
from portfolio.storage.writer import PortfolioWriter

NO_CREATIONS = cast(PortfolioWriter, None)


class Rows:
    """A repository that holds ``total`` rows, each of them only a number."""

    def __init__(self, total: int) -> None:
        self.rows = list(range(total))

    def find(self, search: Search, limit: int) -> list[int]:
        return self.rows[search.offset :][:limit]

    def count(self, search: Search) -> int:
        return len(self.rows)


@given(st.integers(0, 40), st.integers(1, 45), st.integers(0, 45))
def test_a_page_tells_the_total_and_whether_a_row_lies_beyond_it(
    total: int, limit: int, offset: int
) -> None:
    service = PortfolioService(cast(PortfolioRepository, Rows(total)), NO_CREATIONS)
    page = service.search(Search(limit=limit, offset=offset))
    assert cast(list[Any], page.portfolios) == list(range(total))[offset : offset + limit]
    assert page.total == total
    assert page.has_next == (offset + limit < total)


def test_rows_that_come_while_a_page_is_read_never_make_it_contradict_itself() -> None:
    class Growing(Rows):
        def count(self, search: Search) -> int:
            return 0  # counted before the rows that the page found were there

    page = PortfolioService(cast(PortfolioRepository, Growing(9)), NO_CREATIONS).search(
        Search(limit=3)
    )
    assert page.has_next
    assert page.total > len(page.portfolios)


def drafts(*names: str) -> list[PortfolioCreate]:
    return [PortfolioCreate(name) for name in names]


def test_a_bulk_names_each_duplicate_once_and_as_it_first_stood() -> None:
    bulk = drafts("Growth", "value", " GROWTH ", "Value", "growth", "Income")
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
        check_bulk(drafts(*names))
    except BadRequest:
        assert not valid
    else:
        assert valid


def test_a_name_of_a_bulk_that_breaks_the_format_is_refused() -> None:
    with pytest.raises(BadRequest) as refusal:
        check_bulk(drafts("Growth", "Größe"))
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
