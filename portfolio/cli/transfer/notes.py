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

_NOTE_VERSION = 2


class Target(NamedTuple):
    """The collection that a transfer reads or writes.

    Its UUID changes when it is dropped, and is empty if it is not known.
    """

    database: str
    server: str
    uuid: str

    def __str__(self) -> str:
        return f"{self.database} at {self.server}"


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
    return Target(settings.mongodb_db, redact_uri(settings.mongodb_uri), uuid)


@dataclass(frozen=True)
class Note:
    """A small JSON file beside the data that says what is transferred, and how far.

    ``subject`` begins the sentence that names the target of an earlier transfer. A resumed transfer
    must have the same ``options``.
    """

    path: Path
    subject: str
    target: Target
    options: dict[str, Any]

    def read(self) -> dict[str, Any] | None:
        """Return what was noted, or None where there is no note.

        Raises:
            TransferError: this version has not written it, or it is of another transfer.
        """
        try:
            content: Any = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            content = None
        if isinstance(content, dict) and content.get("note") != _NOTE_VERSION:
            raise TransferError(
                f"{self.path} was written by another version of this command: finish with that "
                "version. After --restart, an import stores again what that version has stored."
            )
        try:
            noted, options = Target(**content["target"]), content["options"]
        except (KeyError, TypeError):
            raise TransferError(f"{self.path} is damaged. {RESTART}") from None
        same_database = noted[:2] == self.target[:2]
        # One collection can be reached by several URIs: the UUID decides, where it is known.
        if noted.uuid != self.target.uuid if noted.uuid and self.target.uuid else not same_database:
            dropped = ", whose collection was dropped since" if same_database else ""
            raise TransferError(
                f"{self.subject} {noted}; this is {self.target}{dropped}. {RESTART}"
            )
        if options != self.options:
            raise TransferError(f"{self.path} is of other options: {options}. {RESTART}")
        return dict(content)

    def write(self, progress: dict[str, Any], *, durable: bool = False) -> None:
        """Replace the note; ``durable`` waits until it has reached the disk.

        Raises:
            OSError: it can't be written; the old note stays.
        """
        content = {"note": _NOTE_VERSION, "target": self.target._asdict(), "options": self.options}
        text = json.dumps(content | progress, indent=1)
        replace_file(self.path, text.encode(), draft="new", durable=durable)

    def remove(self) -> None:
        """Remove the note: the transfer is complete."""
        self.path.unlink(missing_ok=True)
