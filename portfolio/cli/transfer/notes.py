"""The notes beside the files of a transfer, from which it is resumed."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pymongo.errors import CollectionInvalid, OperationFailure

from portfolio.api.services import Services
from portfolio.cli.helpers import database_errors
from portfolio.cli.transfer.files import RESTART, TransferError
from portfolio.observability.shared_state import replace_file
from portfolio.redaction import redact_uri
from portfolio.storage.connection import COLLECTION


class Target(NamedTuple):
    """The collection that a transfer reads or writes.

    Its UUID changes when it is dropped, and is empty if it is not known.
    """

    name: str
    uuid: str


def describe_target(services: Services, *, create: bool = False) -> Target:
    """Return the collection of portfolios; ``create`` creates it if it is missing."""
    database = services.database

    def find_uuid() -> str:
        if create:
            # It exists, or the first insert creates it.
            with suppress(CollectionInvalid, OperationFailure):
                database.database.create_collection(COLLECTION)
        try:
            found = next(database.database.list_collections(filter={"name": COLLECTION}), {})
        except OperationFailure:  # the user may not list collections
            return ""
        return bytes(found.get("info", {}).get("uuid", b"")).hex()

    with database_errors():
        uuid = database.run("listCollections", find_uuid, retry=True)
    settings = services.settings
    return Target(f"{settings.mongodb_db} at {redact_uri(settings.mongodb_uri)}", uuid)


@dataclass(frozen=True)
class Note:
    """A small JSON file beside the data that says what is transferred, and how far.

    A resumed transfer must have the same ``target`` and ``options``.
    """

    path: Path
    target: Target
    options: dict[str, Any]

    def read(self) -> dict[str, Any] | None:
        """Return the noted progress, or None where there is no note.

        Raises:
            TransferError: it can't be understood, or is of another transfer.
        """
        try:
            content = json.loads(self.path.read_bytes())
            noted, options = Target(**content["target"]), content["options"]
            progress: dict[str, Any] = content["progress"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise TransferError(
                f"{self.path} is damaged, or from another version. {RESTART}"
            ) from None
        same_name = noted.name == self.target.name
        # One collection can be reached by several URIs: the UUID decides, where it is known.
        if noted.uuid != self.target.uuid if noted.uuid and self.target.uuid else not same_name:
            dropped = ", whose collection was dropped since" if same_name else ""
            raise TransferError(
                f"{self.path} is of a transfer with {noted.name}; this is {self.target.name}"
                f"{dropped}. {RESTART}"
            )
        if options != self.options:
            raise TransferError(f"{self.path} is of other options: {options}. {RESTART}")
        return progress

    def write(self, progress: dict[str, Any]) -> None:
        """Replace the note.

        Raises:
            OSError: it can't be written; the old note stays.
        """
        content = {"target": self.target._asdict(), "options": self.options, "progress": progress}
        replace_file(self.path, json.dumps(content, indent=1).encode(), draft="new")

    def remove(self) -> None:
        """Remove the note: the transfer is complete."""
        self.path.unlink(missing_ok=True)
