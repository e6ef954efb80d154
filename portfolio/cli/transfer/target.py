"""The database that a transfer reads or writes, described so that notes can be compared with it."""

from __future__ import annotations

from typing import Any

from pymongo.errors import CollectionInvalid, OperationFailure

from portfolio.api.services import Services
from portfolio.redaction import redact_uri
from portfolio.storage.client import COLLECTION


def ensure_collection(services: Services) -> None:
    """Create the collection of portfolios if it is missing, so that it has a UUID."""

    def ensure() -> None:
        try:
            services.database.database.create_collection(COLLECTION)
        except (CollectionInvalid, OperationFailure):
            return  # it exists, or the first insert creates it

    services.database.run(ensure, retry=True)


def describe_target(services: Services) -> dict[str, str]:
    """Return the name of the database, its address without password, and the collection's UUID.

    The UUID is the same on every member of a cluster, and another one once the collection was
    dropped. It is empty if the user may not list collections.
    """

    def find() -> list[Any]:
        try:
            return list(services.database.database.list_collections(filter={"name": COLLECTION}))
        except OperationFailure:
            return []

    found = services.database.run(find, retry=True)
    uuid = found[0].get("info", {}).get("uuid", b"") if found else b""
    return {
        "database": services.settings.mongodb_db,
        "server": redact_uri(services.settings.mongodb_uri),
        "collection": bytes(uuid).hex(),
    }


def is_same_target(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two descriptions are of one collection."""
    if one.get("collection") and other.get("collection"):
        return bool(one["collection"] == other["collection"])
    return is_same_database(one, other)


def is_same_database(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two descriptions name one database, its collection dropped or not."""
    return all(one.get(key) == other.get(key) for key in ("database", "server"))


def name_of(target: dict[str, Any]) -> str:
    """Return how messages name a target."""
    return f"{target.get('database')} at {target.get('server')}"
