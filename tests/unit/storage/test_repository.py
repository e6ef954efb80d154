"""Ids as clients write them."""

from __future__ import annotations

from typing import cast

import pytest

from portfolio.storage.database import Database
from portfolio.storage.repository import PortfolioRepository


@pytest.mark.parametrize("text", ["", "x", "0" * 23, "0" * 25, "g" * 24, "é" * 12])
def test_what_is_no_id_is_not_asked_for(text: str) -> None:
    no_database = cast(Database, None)
    assert PortfolioRepository(no_database).get_all([text]) == {}
