"""The list of the fields that documents have."""

from __future__ import annotations

from portfolio.models import Portfolio
from portfolio.storage.documents import FIELDS


def test_the_list_of_fields_has_all_fields_of_a_portfolio_in_their_order() -> None:
    assert ("id", *(field.attribute for field in FIELDS)) == Portfolio._fields
