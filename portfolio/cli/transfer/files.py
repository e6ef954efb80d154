"""The files of a transfer: their names, their locks, and the notes beside them."""

from __future__ import annotations

import errno
import fcntl
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import click
from pymongo.errors import CollectionInvalid, OperationFailure

from portfolio.api.services import Services
from portfolio.cli.helpers import database_errors
from portfolio.observability.shared_state import replace_file
from portfolio.redaction import redact_uri
from portfolio.storage.client import COLLECTION

STANDARD_INPUT, STANDARD_OUTPUT = 0, 1
RESTART = "--restart begins anew: an import leaves alone what is stored already."
_STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_NOTE_VERSION = 2


class TransferError(click.ClickException):
    """The transfer can't go on; the message says why and what to do."""


@contextmanager
def file_errors(file: Path, on_disk_error: str = "") -> Iterator[None]:
    """Turn an ``OSError`` into a ``TransferError`` that names the file, or ``file`` if it does not.

    A broken pipe is left to end the command in silence, as it ends others. ``on_disk_error`` is
    added to the message if the disk is full or broken.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        more = on_disk_error if error.errno in _DISK_ERRORS else ""
        raise TransferError(f"{error.filename or file}: {error.strerror or error}{more}") from error


def descriptor_of(file: Path, dash: int) -> int | None:
    """Return the open descriptor that ``file`` names, such as ``/dev/fd/63``; ``-`` is ``dash``.

    The path of a descriptor must not be opened: a regular file would be read from its start, and
    replaced under whoever else writes to it.
    """
    match = _DESCRIPTOR.fullmatch(str(file))
    return int(match[1]) if match else {"-": dash, **_STREAMS}.get(str(file))


def is_compressed(file: Path) -> bool:
    """Return whether the name of ``file`` says that it is compressed with gzip."""
    return file.suffix.lower() == ".gz"


def label_of(file: Path, given: str | None) -> str:
    """Return the label of ``file``: the given one, else its name without ``.gz``.

    All names of open descriptors have the label of the standard input.
    """
    if given is None:
        is_open = descriptor_of(file, STANDARD_INPUT) is not None
        given = "-" if is_open else _uncompressed_name(file)
    # Names of files may hold bytes that are not text.
    return given.encode(errors="backslashreplace").decode()


def format_of(file: Path, given: str | None) -> str:
    """Return the format of ``file``: the given one, else what its name says."""
    return given or ("csv" if _uncompressed_name(file).lower().endswith(".csv") else "ndjson")


def _uncompressed_name(file: Path) -> str:
    return file.stem if is_compressed(file) else file.name


def lock(file: IO[bytes], refusal: str) -> None:
    """Lock ``file`` until it is closed, at the latest by the end of the process.

    Raises:
        TransferError: another process has locked it; ``refusal`` is the message.
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TransferError(refusal) from None


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
        uuid = database.run(find_uuid, retry=True)
    settings = services.settings
    return Target(settings.mongodb_db, redact_uri(settings.mongodb_uri), uuid)


@dataclass(frozen=True)
class Note:
    """A small JSON file beside the data that says what is transferred, and how far.

    Attributes:
        path: where it is kept.
        subject: begins the sentence that names the target of an earlier transfer.
        target: the target of this transfer.
        options: those of this transfer that a resumed one must have too.
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
