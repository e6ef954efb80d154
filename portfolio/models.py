"""Portfolios and what is asked of them: plain values, without HTTP and without MongoDB."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

# Stored versions have 64 bits. New portfolios stay within 32, which clients in Java read.
MIN_VERSION = -(2**63)
MAX_VERSION = 2**63 - 1
MAX_NEW_VERSION = 2**31 - 1
# The version of a new portfolio, and of a stored one that has none.
DEFAULT_VERSION = 1


class Portfolio(NamedTuple):
    """A portfolio; section 1 of the contract gives the fields.

    Attributes:
        id: 24 hexadecimal digits.
        name: its name.
        date_created: naive, in UTC.
        version: raised by each update.
    """

    id: str
    name: str
    date_created: datetime
    version: int


class PortfolioCreate(NamedTuple):
    """A portfolio to create.

    Attributes:
        name: its name.
        date_created: naive, in UTC; None means now.
        version: its first version.
        id: its id, which an import chooses; None means a new one.
    """

    name: str
    date_created: datetime | None = None
    version: int = DEFAULT_VERSION
    id: str | None = None

    def to_portfolio(self, id: str, now: datetime) -> Portfolio:
        """Return the portfolio to store under ``id``."""
        return Portfolio(id, self.name, self.date_created or now, self.version)


class PortfolioUpdate(NamedTuple):
    """New values of a portfolio whose stored version is ``version``; None leaves a value alone."""

    name: str
    version: int
    date_created: datetime | None = None


class Search(NamedTuple):
    """A search for a page of portfolios; at most one of the names is set.

    Attributes:
        fields: the fields of the JSON that to give; None means all. They choose no portfolios.
    """

    name: str | None = None
    name_like: str | None = None
    limit: int = 50
    offset: int = 0
    fields: tuple[str, ...] | None = None


class Lookup(NamedTuple):
    """The ids and the names of portfolios to resolve."""

    ids: list[str]
    names: list[str]


class Resolution(NamedTuple):
    """The portfolios of a lookup, each once, and what of it no portfolio has."""

    portfolios: list[Portfolio]
    missing: Lookup


class Page(NamedTuple):
    """One page of the portfolios that match a search."""

    portfolios: list[Portfolio]
    total: int
    has_next: bool


class SortKey(NamedTuple):
    """The sort key of a portfolio in the order of pages.

    Attributes:
        created: the stored ``dateCreated``, of whatever type; None where there is none.
        identity: the stored id.
    """

    created: Any
    identity: Any


class CreateResult(NamedTuple):
    """The portfolios that a creation stored, now or when it was first requested."""

    portfolios: list[Portfolio]
    replayed: bool = False


class IdempotencyKey(NamedTuple):
    """Identifies a creation.

    Attributes:
        key: the client's own.
        fingerprint: a digest of the request.
        caller: a digest of the client's API key; None where there are no API keys.
    """

    key: str
    fingerprint: str
    caller: str | None = None


class IdempotencyRecord(NamedTuple):
    """A creation with an idempotency key: its portfolios, and whether all of them are stored."""

    key: IdempotencyKey
    portfolios: list[Portfolio]
    done: bool
    created: datetime
