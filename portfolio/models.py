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
    """A portfolio (CONTRACT.md section 1).

    Its id has 24 hexadecimal digits; its date is naive, in UTC. Each update raises its version.
    """

    id: str
    name: str
    date_created: datetime
    version: int


class PortfolioCreate(NamedTuple):
    """A portfolio to create.

    Without a date, which is naive and in UTC, it is created now. Only an import gives it an id.
    """

    name: str
    date_created: datetime | None = None
    version: int = DEFAULT_VERSION
    id: str | None = None

    def to_portfolio(self, id: str, now: datetime) -> Portfolio:
        """Return the portfolio to store under ``id``."""
        return Portfolio(id, self.name, self.date_created or now, self.version)


class PortfolioUpdate(NamedTuple):
    """New values of a portfolio whose stored version is ``version``; None keeps the stored one."""

    name: str
    version: int
    date_created: datetime | None = None


class Search(NamedTuple):
    """A search for a page of portfolios; at most one of the names is set.

    ``fields`` are those of the JSON to give, None means all; they choose no portfolios.
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
    """What pages sort by: the stored ``dateCreated``, of any type or None, and the stored id."""

    created: Any
    identity: Any


class CreateResult(NamedTuple):
    """The portfolios that a creation stored, now or when it was first requested."""

    portfolios: list[Portfolio]
    replayed: bool = False


class IdempotencyKey(NamedTuple):
    """Identifies a creation: the client's own key, and digests of the request and the API key.

    ``caller`` is None where there are no API keys.
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
