"""MongoDB documents and the models that they hold, mapped by one list of fields."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from bson import CodecOptions, DatetimeMS, ObjectId
from bson.codec_options import DatetimeConversion
from bson.errors import InvalidId

from portfolio.models import (
    DEFAULT_VERSION,
    IdempotencyKey,
    IdempotencyRecord,
    Portfolio,
    PortfolioUpdate,
)

Document = dict[str, Any]

# Other services may have written dates outside Python's range, which must not make a page fail:
# they are read as DatetimeMS.
CODEC_OPTIONS: CodecOptions[Document] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
_CLAMP: CodecOptions[Document] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_CLAMP)


def _read_date(value: Any, id: ObjectId) -> datetime:
    """Return a stored date, clamped to Python's range; where there is none, that of the id."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, DatetimeMS):
        return value.as_datetime(_CLAMP)
    return id.generation_time.replace(tzinfo=None)


def _read_version(value: Any, _id: ObjectId) -> int:
    # The mongo shell stores numbers as doubles.
    return DEFAULT_VERSION if value is None else int(value)


class _Field(NamedTuple):
    """A field of ``Portfolio`` in documents.

    Attributes:
        attribute: its name in ``Portfolio`` and ``PortfolioUpdate``.
        key: its name in documents.
        default: its stored value where a document lacks the field.
        read: turns the stored value, and the document's id, into the attribute; None where the
            stored value is the attribute.
    """

    attribute: str
    key: str
    default: Any = None
    read: Callable[[Any, ObjectId], Any] | None = None


# All fields but the id, in the order of ``Portfolio``.
FIELDS = (
    _Field("name", "name", default=""),
    _Field("date_created", "dateCreated", read=_read_date),
    _Field("version", "version", read=_read_version),
)
PROJECTION = {field.key: 1 for field in FIELDS}
_KEYS = tuple(PROJECTION)


def new_id() -> str:
    """Return a new id."""
    return str(ObjectId())


def parse_id(text: str) -> ObjectId | None:
    """Return the id that ``text`` represents; None where it is not an id."""
    try:
        return ObjectId(text)
    except InvalidId:
        return None


def to_document(portfolio: Portfolio) -> Document:
    """Return the document that stores ``portfolio``."""
    values = zip(_KEYS, portfolio[1:], strict=True)
    return {"_id": ObjectId(portfolio.id), **dict(values)}


def from_document(document: Document) -> Portfolio:
    """Return the portfolio that ``document`` stores, whichever service wrote it."""
    id = document["_id"]
    values = [
        document.get(key, default) if read is None else read(document.get(key, default), id)
        for _, key, default, read in FIELDS
    ]
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
        "documents": [to_document(portfolio) for portfolio in record.portfolios],
        "done": record.done,
        "created": record.created,
    }


def record_from_document(document: Document, key: IdempotencyKey) -> IdempotencyRecord:
    """Return the record that ``document`` stores, with the fingerprint that it was stored with."""
    return IdempotencyRecord(
        key._replace(fingerprint=document["fingerprint"]),
        [from_document(each) for each in document["documents"]],
        document["done"],
        document["created"],
    )
