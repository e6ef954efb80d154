"""A portfolio as it is on the wire, and as it is on disk."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple, TypedDict

from bson import CodecOptions, DatetimeMS, ObjectId
from bson.codec_options import DatetimeConversion

from portfolio.timestamps import rfc3339

MAX_VERSION = 2**63 - 1
# What a portfolio starts with, and what a document that lacks the field is shown with.
DEFAULT_VERSION = 1

_NEAREST: CodecOptions[Any] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_CLAMP)


class Portfolio(TypedDict):
    """A portfolio on the wire; section 1 of the contract gives the fields."""

    portfolioId: str
    name: str
    dateCreated: str
    version: int


class PortfolioCreate(NamedTuple):
    """What a client asks to create; an import brings the id too."""

    name: str
    date_created: datetime | None = None
    version: int = DEFAULT_VERSION
    identity: ObjectId | None = None


class PortfolioUpdate(NamedTuple):
    """What a client asks to change: ``version`` is the one that it has seen."""

    name: str
    version: int
    date_created: datetime | None = None


class Search(NamedTuple):
    """Which portfolios to find, and the page of them; at most one of the names is set."""

    name: str | None = None
    name_like: str | None = None
    limit: int = 50
    offset: int = 0


class Page(NamedTuple):
    """One page of what a search found."""

    portfolios: list[Portfolio]
    total: int
    has_next: bool


class SortKey(NamedTuple):
    """A place in the order of pages: what the portfolio there is sorted by.

    Attributes:
        created: the stored ``dateCreated``, whatever it is; None where there is none.
        identity: the id.
    """

    created: Any
    identity: ObjectId


class CreateResult(NamedTuple):
    """What a creation stored, now or when it was first asked for."""

    portfolios: list[Portfolio]
    replayed: bool = False


class IdempotencyKey(NamedTuple):
    """What tells one creation from another.

    Attributes:
        key: the client's own.
        fingerprint: a digest of what the client asked.
        caller: a digest of the client's API key; None where there are no API keys.
    """

    key: str
    fingerprint: str
    caller: str | None = None

    @property
    def identity(self) -> Any:
        """What its record is stored under: no two callers share one."""
        return self.key if self.caller is None else {"caller": self.caller, "key": self.key}


class IdempotencyRecord(NamedTuple):
    """What is kept of a creation: what it stores, and whether that is known to be stored."""

    key: IdempotencyKey
    documents: list[dict[str, Any]]
    done: bool
    created: datetime


def to_document(draft: PortfolioCreate, now: datetime) -> dict[str, Any]:
    """Return the document that stores ``draft``, with an id of its own.

    The id is made here, before the first attempt: an insert that is tried again can then never
    store a second portfolio.

    Args:
        draft: what to store.
        now: the creation date where the draft has none; naive, in UTC.
    """
    return {
        "_id": draft.identity or ObjectId(),
        "name": draft.name,
        "dateCreated": draft.date_created or now,
        "version": draft.version,
    }


def from_document(document: dict[str, Any]) -> Portfolio:
    """Return the portfolio that ``document`` stores, whichever service wrote it.

    A document without a date gets the one that its id carries, which never changes; a date outside
    Python's years is shown as the nearest inside. What lies below a millisecond is cut off here as
    PyMongo does it, so that creation and later reads answer the same.
    """
    identity = document["_id"]
    created = document.get("dateCreated")
    if not isinstance(created, datetime):
        if isinstance(created, DatetimeMS):
            created = created.as_datetime(_NEAREST)
        else:
            created = identity.generation_time
    version = document.get("version")
    return {
        "portfolioId": str(identity),
        "name": document.get("name", ""),
        "dateCreated": rfc3339(created),
        # A shell or a script of another language may have stored a double.
        "version": DEFAULT_VERSION if version is None else int(version),
    }


def utc_now() -> datetime:
    """The time now, naive, in UTC: PyMongo's own form of a date."""
    return datetime.now(UTC).replace(tzinfo=None)
