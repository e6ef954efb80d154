"""How far the import of a file has come, kept in a note beside the file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from portfolio.cli.transfer.files import Note, NoteError, NoteVersionError, TransferError
from portfolio.cli.transfer.source import START, Position
from portfolio.cli.transfer.target import is_same_database, is_same_target, name_of

_RESTART = (
    "--restart begins at the first line: what is stored already is recognised and left alone."
)


class Reading(NamedTuple):
    """How a file is read; read in another way, it may have other rows."""

    label: str
    format: str
    spreadsheet_safe: bool


@dataclass
class Checkpoint:
    """The position up to which a file is imported.

    Attributes:
        reading: how the file is read.
        target: the database, as ``describe_target`` returns it.
        note: where the position is kept; None for a stream.
        position: rows behind it may or may not be stored.
        restarted: whether rows may be stored in any order, as after changes to the file.
    """

    reading: Reading
    target: dict[str, str]
    note: Note | None
    position: Position = START
    restarted: bool = False

    def reach(self, position: Position, *, durable: bool = False) -> None:
        """Note that all before ``position`` is done; ``durable`` waits for the disk.

        Raises:
            TransferError: the note can't be written.
        """
        if self.note is not None:
            content = {
                "target": self.target,
                "reading": self.reading._asdict(),
                "restarted": self.restarted,
                "done": position._asdict(),
            }
            try:
                self.note.write(content, durable=durable)
            except OSError as error:
                raise TransferError(
                    f"{self.note.path}: the note of progress can't be written: {error.strerror}. "
                    + (
                        "Nothing is imported. --no-resume imports without a note."
                        if self.position == START
                        else f"All up to line {self.position.line} is imported, perhaps more; the "
                        "same command goes on from there."
                    )
                ) from error
        self.position = position

    def end(self) -> None:
        """Remove the note: the file is imported, or nothing of it is."""
        if self.note is not None:
            self.note.remove()

    def mismatch(self, reason: str) -> TransferError:
        """Return the error for a file that is not the noted one.

        Args:
            reason: the difference, as the end of a sentence about the file.
        """
        path = self.note.path if self.note is not None else None
        return TransferError(f"{path} does not fit this file: {reason}. {_RESTART}")


def load_checkpoint(
    path: Path | None, reading: Reading, target: dict[str, str], *, restart: bool
) -> Checkpoint:
    """Return the checkpoint from which an import goes on.

    Args:
        path: where the note is; None for a stream.
        reading: how the file is read now.
        target: the database now.
        restart: ignore what is noted and begin at the first line.

    Raises:
        TransferError: the note is damaged, or of another database or way of reading.
    """
    note = None if path is None else Note(path)
    fresh = Checkpoint(reading, target, note, restarted=restart)
    if note is None or restart:
        return fresh
    try:
        content = note.read()
        if content is None:
            return fresh
        noted = _parse(content, note)
    except NoteVersionError as error:
        raise TransferError(
            f"{note.path} {error}, which gave rows other ids: finish with that version. --restart "
            "begins at the first line and stores again what that version has stored."
        ) from None
    except NoteError as error:
        raise TransferError(f"{note.path} {error}. {_RESTART}") from None
    if noted.position == START:
        return fresh
    if not is_same_target(noted.target, target):
        dropped = is_same_database(noted.target, target)
        raise TransferError(
            f"{note.path} is of an import into {name_of(noted.target)}; this is {name_of(target)}"
            f"{', whose collection was dropped since' if dropped else ''}. {_RESTART}"
        )
    for name, before, now in zip(Reading._fields, noted.reading, reading, strict=True):
        if before != now:
            option = f"--{name.replace('_', '-')}"
            raise fresh.mismatch(f"it was begun with {option} {before}, not {now}")
    return replace(noted, target=target)


def _parse(content: dict[str, Any], note: Note) -> Checkpoint:
    try:
        done = content["done"]
        position = Position(int(done["line"]), int(done["size"]), str(done["sha256"]))
        reading, target = Reading(**content["reading"]), dict(content["target"])
        return Checkpoint(reading, target, note, position, bool(content["restarted"]))
    except (KeyError, TypeError, ValueError):
        raise NoteError("is damaged") from None
