"""The rule that the names of a bulk differ."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from portfolio.errors import BadRequest
from portfolio.models import PortfolioCreate
from portfolio.rules import check_bulk


@given(st.lists(st.text(st.sampled_from("aAbB _-"), min_size=1, max_size=3), max_size=6))
def test_a_bulk_is_taken_exactly_if_its_names_differ_trimmed_and_without_case(
    names: list[str],
) -> None:
    folded = [name.strip().upper() for name in names]
    valid = bool(names) and "" not in folded and len(set(folded)) == len(folded)
    try:
        check_bulk([PortfolioCreate(name) for name in names])
    except BadRequest:
        assert not valid
    else:
        assert valid
