"""Documents and the models that they hold."""

from __future__ import annotations

from datetime import datetime

import pytest
from bson import DatetimeMS, ObjectId

from portfolio.models import MAX_VERSION, Portfolio, PortfolioUpdate
from portfolio.storage.documents import (
    FIELDS,
    PROJECTION,
    from_document,
    to_changes,
    to_document,
)

ID = "65abdc3c0123456789abcdef"  # made at 2024-01-20 14:44:12
PORTFOLIO = Portfolio(ID, "Growth", datetime(2024, 1, 20, 14, 45), 3)


def test_the_list_of_fields_has_all_fields_of_a_portfolio_in_their_order() -> None:
    assert ("id", *(field.attribute for field in FIELDS)) == Portfolio._fields
    assert to_document(PORTFOLIO).keys() == {"_id", *PROJECTION}


def test_a_document_holds_the_portfolio_that_it_was_made_of() -> None:
    assert from_document(to_document(PORTFOLIO)) == PORTFOLIO


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({}, Portfolio(ID, "", datetime(2024, 1, 20, 14, 44, 12), 1)),
        ({"name": "A", "version": 2.0}, Portfolio(ID, "A", datetime(2024, 1, 20, 14, 44, 12), 2)),
        (
            {"dateCreated": DatetimeMS(2**60)},
            Portfolio(ID, "", datetime(9999, 12, 31, 23, 59, 59, 999000), 1),
        ),
    ],
    ids=["no fields", "a version as double", "a date after the year 9999"],
)
def test_a_document_of_another_service_is_read(
    stored: dict[str, object], expected: Portfolio
) -> None:
    assert from_document({"_id": ObjectId(ID), **stored}) == expected


def test_an_update_sets_the_next_version_and_leaves_alone_what_it_does_not_name() -> None:
    assert to_changes(PortfolioUpdate("Value", 3)) == {"name": "Value", "version": 4}
    date = datetime(2024, 1, 1)
    changes = to_changes(PortfolioUpdate("Value", MAX_VERSION - 1, date))
    assert changes == {"name": "Value", "version": MAX_VERSION, "dateCreated": date}
