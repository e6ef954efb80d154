"""The rules of the contract, sections 3 and 4: name format, bulk size, search parameters."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from portfolio.errors import BadRequest, LocatedError, UnprocessableEntity
from portfolio.models import Lookup, PortfolioCreate, Search

MAX_BULK = 100
MAX_LOOKUP = 1000
INVALID_NAME = (
    "Invalid portfolio name format. Name must be 1-200 characters, alphanumeric, spaces, "
    "hyphens, and underscores only"
)

_STRICT_NAME = re.compile(r"[A-Za-z0-9 _-]{1,200}")


class InvalidName(BadRequest):
    """A name in a search, or that of portfolio ``index`` of a bulk, violates the strict format."""

    def __init__(self, index: int = 0) -> None:
        super().__init__(INVALID_NAME)
        self.index = index


def is_strict_name(name: str) -> bool:
    """Tell whether ``name`` has the format of v2 and fast: letters, digits, space, - and _."""
    return _STRICT_NAME.fullmatch(name) is not None and not name.isspace()


def normalize_name(name: str) -> str:
    """Return the form in which names are compared: trimmed, in lower case, in Unicode's NFC."""
    return unicodedata.normalize("NFC", name.strip().lower())


def check_lookup(lookup: Lookup) -> None:
    """Raise UnprocessableEntity unless there are 1 to ``MAX_LOOKUP`` ids and names in all."""
    if not 1 <= len(lookup.ids) + len(lookup.names) <= MAX_LOOKUP:
        size = f"ids and names should have 1 to {MAX_LOOKUP} items in all"
        raise UnprocessableEntity([LocatedError(loc=["body"], msg=size, type="list_length")])


def check_search(search: Search) -> Search:
    """Return ``search`` if its names follow the rules.

    Raises:
        BadRequest: both names are given, or one is blank or violates the format.
    """
    if search.name is not None and search.name_like is not None:
        raise BadRequest("Only one search parameter allowed: name or name_like")
    name = search.name if search.name is not None else search.name_like
    if name is not None:
        if not name or name.isspace():
            raise BadRequest("Search parameter cannot be empty")
        if not is_strict_name(name):
            raise InvalidName
    return search


def check_bulk_size(count: int) -> None:
    """Raise BadRequest if ``count``, the size of a bulk, is 0 or above ``MAX_BULK``."""
    if count < 1:
        raise BadRequest("Request must contain at least 1 portfolio")
    if count > MAX_BULK:
        raise BadRequest(f"Request cannot contain more than {MAX_BULK} portfolios")


def check_bulk(portfolios: Sequence[PortfolioCreate]) -> None:
    """Check the size of a bulk, the format of its names, and that they differ.

    Raises:
        InvalidName: a name violates the format.
        BadRequest: the size is wrong, or names are equal when trimmed and compared without case.
    """
    check_bulk_size(len(portfolios))
    for index, portfolio in enumerate(portfolios):
        if not is_strict_name(portfolio.name):
            raise InvalidName(index)
    spellings = defaultdict(list)
    for portfolio in portfolios:
        spellings[normalize_name(portfolio.name)].append(portfolio.name.strip())
    duplicates = ", ".join(each[0] for each in spellings.values() if len(each) > 1)
    if duplicates:
        raise BadRequest(f"Duplicate portfolio names found in request: {duplicates}")
