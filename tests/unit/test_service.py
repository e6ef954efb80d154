"""The use cases, without HTTP and without a database."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio.errors import BadRequest
from portfolio.models import PortfolioCreate, Search, SortKey
from portfolio.service import PortfolioService
from portfolio.storage.database import Database
from portfolio.storage.repository import PortfolioRepository
from portfolio.storage.search import PortfolioSearch
from portfolio.storage.writer import PortfolioWriter

NO_REPOSITORY = PortfolioRepository(cast(Database, None))
NO_WRITER = cast(PortfolioWriter, None)


def service_over(rows: object) -> PortfolioService:
    return PortfolioService(NO_REPOSITORY, cast(PortfolioSearch, rows), NO_WRITER)


class Rows:
    """A search over ``total`` rows, each of them only a number."""

    def __init__(self, total: int) -> None:
        self.rows = list(range(total))

    def find(self, search: Search) -> tuple[list[int], SortKey | None]:
        end = search.offset + search.limit
        key = SortKey(None, end) if end < len(self.rows) else None
        return self.rows[search.offset : end], key

    def count(self, search: Search) -> int:
        return len(self.rows)


@given(st.integers(0, 40), st.integers(1, 45), st.integers(0, 45))
def test_a_page_tells_the_total_and_whether_a_row_lies_beyond_it(
    total: int, limit: int, offset: int
) -> None:
    page = service_over(Rows(total)).search(Search(limit=limit, offset=offset))
    assert cast(list[Any], page.portfolios) == list(range(total))[offset : offset + limit]
    assert page.total == total
    assert page.has_next == (offset + limit < total)


def test_rows_that_come_while_a_page_is_read_never_make_it_contradict_itself() -> None:
    class Growing(Rows):
        def count(self, search: Search) -> int:
            return 0  # counted before the rows that the page found were there

    page = service_over(Growing(9)).search(Search(limit=3))
    assert page.has_next
    assert page.total > len(page.portfolios)


@pytest.mark.parametrize("names", [[], ["x"] * 101, ["Größe"], ["Growth", " growth"]])
def test_a_bulk_that_violates_a_rule_is_refused_before_anything_is_read_or_stored(
    names: list[str],
) -> None:
    service = service_over(None)
    with pytest.raises(BadRequest):
        service.create_all([PortfolioCreate(name) for name in names])
