"""What both baselines share: a portfolio on the wire and on disk, and the page around a list."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from bson import ObjectId
from pymongo import WriteConcern

COLLECTION = "portfolio"
NEWEST_FIRST = {"dateCreated": -1, "_id": -1}
CASE_INSENSITIVE = {"locale": "en", "strength": 2}
SAFE = WriteConcern(w="majority", j=True)


def to_document(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the document that stores what a client sent."""
    now = datetime.now(UTC).replace(tzinfo=None)
    return {
        "_id": ObjectId(),
        "name": fields["name"],
        "dateCreated": now.replace(microsecond=now.microsecond // 1000 * 1000),
        "version": 1,
    }


def from_document(document: dict[str, Any]) -> dict[str, Any]:
    """Return what a client gets for ``document``."""
    return {
        "portfolioId": str(document["_id"]),
        "name": document["name"],
        "dateCreated": document["dateCreated"].isoformat(timespec="milliseconds") + "Z",
        "version": document["version"],
    }


def page(found: list[dict[str, Any]], total: int, limit: int) -> dict[str, Any]:
    """Return the first page of a search.

    Args:
        found: the documents, one more than ``limit`` where a row lies beyond the page.
        total: how many there are in all.
        limit: the size of a page.
    """
    return {
        "portfolios": [from_document(document) for document in found[:limit]],
        "pagination": {
            "totalElements": total,
            "totalPages": -(-total // limit),
            "currentPage": 0,
            "pageSize": limit,
            "hasNext": len(found) > limit,
            "hasPrevious": False,
        },
    }


def live() -> dict[str, Any]:
    """Return what a liveness probe gets."""
    return {
        "status": "alive",
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds")[:23] + "Z",
        "service": "globeco-portfolio-service",
        "probe_type": "liveness",
        "response_time_ms": 0.0,
        "cached": False,
    }
