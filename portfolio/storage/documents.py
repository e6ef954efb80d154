"""What MongoDB stores: documents, which one list of fields maps to models, and their indexes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from bson import CodecOptions, DatetimeMS, Decimal128, ObjectId
from bson.codec_options import DatetimeConversion
from pymongo import IndexModel
from pymongo.collation import Collation

from portfolio.models import (
    DEFAULT_VERSION,
    MAX_VERSION,
    MIN_VERSION,
    IdempotencyKey,
    IdempotencyRecord,
    Portfolio,
    PortfolioUpdate,
)
from portfolio.timestamps import EPOCH, parse_date

Document = dict[str, Any]

# Other services may have written dates outside Python's range, and text that is not UTF-8, which
# must not make a page fail: such dates are read as DatetimeMS, such bytes as U+FFFD.
CODEC_OPTIONS: CodecOptions[Document] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)
_CLAMP: CodecOptions[Document] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_CLAMP)


def _read_name(value: Any, _id: Any) -> str:
    return "" if value is None else str(value)


def _read_date(value: Any, id: Any) -> datetime:
    """Return a stored date, clamped to Python's range.

    Where there is none, that of the id, or the epoch: only an ObjectId has a date.
    """
    if isinstance(value, DatetimeMS):
        return value.as_datetime(_CLAMP)
    try:
        return parse_date(float(str(value)) if isinstance(value, Decimal128) else value)
    except ValueError:
        if isinstance(id, ObjectId):
            return id.generation_time.replace(tzinfo=None)
        return EPOCH


def _read_version(value: Any, _id: Any) -> int:
    """Return a stored version; the default where there is none of 64 bits."""
    try:
        version = int(value.to_decimal() if isinstance(value, Decimal128) else value)
    except (TypeError, ValueError, OverflowError):
        return DEFAULT_VERSION
    return version if MIN_VERSION <= version <= MAX_VERSION else DEFAULT_VERSION


class _Field(NamedTuple):
    """A field of ``Portfolio`` in documents.

    Attributes:
        attribute: its name in ``Portfolio`` and ``PortfolioUpdate``.
        key: its name in documents.
        kind: the type of the values that this service stores, which need no conversion.
        read: converts a stored value of any other type; gets the value, None if there is none, and
            the document's id.
    """

    attribute: str
    key: str
    kind: type
    read: Callable[[Any, Any], Any]


# All fields but the id, in the order of ``Portfolio``.
FIELDS = (
    _Field("name", "name", str, _read_name),
    _Field("date_created", "dateCreated", datetime, _read_date),
    _Field("version", "version", int, _read_version),
)
PROJECTION = {field.key: 1 for field in FIELDS}
_KEYS = tuple(PROJECTION)

# Equality without regard to case can use an index with this collation; a regular expression with
# option i would scan the index.
CASE_INSENSITIVE = Collation(locale="en", strength=2)
# The same without regard to spaces, wherever they are: only an index that ignores them all finds a
# name that was stored with spaces around it. Whoever reads by it compares what it finds.
IGNORING_SPACES = Collation(locale="en", strength=2, alternate="shifted", maxVariable="space")
PAGES_INDEX = "newest_first"
# The first two end with the order of pages, so that neither pages nor searches by name sort in
# memory. The first has the name too, so that a search for a substring reads keys alone.
INDEXES = (
    IndexModel([("dateCreated", -1), ("_id", -1), ("name", 1)], name=PAGES_INDEX),
    IndexModel(
        [("name", 1), ("dateCreated", -1), ("_id", -1)],
        name="name_case_insensitive",
        collation=CASE_INSENSITIVE,
    ),
    IndexModel([("name", 1)], name="name_ignoring_spaces", collation=IGNORING_SPACES),
)
# Idempotency keys are kept for a day.
IDEMPOTENCY_INDEXES = (IndexModel([("created", 1)], name="expire", expireAfterSeconds=24 * 3600),)


def new_id() -> str:
    """Return a new id."""
    return str(ObjectId())


def to_document(portfolio: Portfolio) -> Document:
    """Return the document that stores ``portfolio``."""
    values = zip(_KEYS, portfolio[1:], strict=True)
    return {"_id": ObjectId(portfolio.id), **dict(values)}


def from_document(document: Document) -> Portfolio:
    """Return the portfolio that ``document`` stores, whichever service wrote it."""
    id = document["_id"]
    values: list[Any] = []
    for _, key, kind, read in FIELDS:
        value = document.get(key)
        values.append(value if type(value) is kind else read(value, id))
    return Portfolio(str(id), *values)


def to_changes(update: PortfolioUpdate) -> Document:
    """Return the values that ``update`` sets, the next version among them."""
    values = {field.key: getattr(update, field.attribute) for field in FIELDS}
    values["version"] = update.version + 1
    return {key: value for key, value in values.items() if value is not None}


def record_id(key: IdempotencyKey) -> Any:
    """Return the ``_id`` of the record with this key; callers never share one."""
    return key.key if key.caller is None else {"caller": key.caller, "key": key.key}


def record_to_document(record: IdempotencyRecord) -> Document:
    """Return the document that stores ``record``."""
    return {
        "_id": record_id(record.key),
        "fingerprint": record.key.fingerprint,
        "documents": list(map(to_document, record.portfolios)),
        "done": record.done,
        "created": record.created,
    }


def record_from_document(document: Document, key: IdempotencyKey) -> IdempotencyRecord:
    """Return the record that ``document`` stores, with the fingerprint that it was stored with."""
    return IdempotencyRecord(
        key._replace(fingerprint=document["fingerprint"]),
        list(map(from_document, document["documents"])),
        document["done"],
        document["created"],
    )
