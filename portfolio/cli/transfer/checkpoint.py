"""How far the import of a file has come: noted beside the file before the first row is stored."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from portfolio.cli.transfer.errors import TransferError
from portfolio.cli.transfer.notes import Note, NoteError, NoteVersionError
from portfolio.cli.transfer.source import START, Position
from portfolio.cli.transfer.target import is_same_target, name_of

_RESTART = (
    "--restart begins at the first line: what is stored already is recognised and left alone."
)


@dataclass(frozen=True)
class Reading:
    """How a file is read: another way of reading it may give other rows.

    Attributes:
        label: what tells its rows from equal rows of other files.
        format: ``ndjson`` or ``csv``.
        spreadsheet_safe: whether its cells are escaped for spreadsheets.
    """

    label: str
    format: str
    spreadsheet_safe: bool


@dataclass
class Checkpoint:
    """The place up to which a file is imported.

    Attributes:
        reading: how the file is read.
        target: the database, as ``describe_target`` gives it.
        note: where it is noted; None for a stream.
        position: the place; nothing behind it is known to be stored.
        restarted: whether rows may be stored in any order, as after changes to the file.
    """

    reading: Reading
    target: dict[str, str]
    note: Note | None
    position: Position = field(default=START)
    restarted: bool = False

    @property
    def label(self) -> str:
        """What tells the rows of the file from equal rows of other files."""
        return self.reading.label

    def reach(self, position: Position) -> None:
        """Note that all before ``position`` is dealt with.

        Raises:
            TransferError: the note can't be written.
        """
        self._write(position, durable=False)

    def begin(self) -> None:
        """Write the note for the first time, before any row is stored.

        Raises:
            TransferError: the note can't be written.
        """
        self._write(self.position, durable=True)

    def end(self) -> None:
        """Remove the note: the file is imported, or nothing of it is."""
        if self.note is not None:
            self.note.remove()

    def mismatch(self, reason: str) -> TransferError:
        """Return the refusal to go on where the note does not fit the file.

        Args:
            reason: what does not fit, as the end of a sentence about the file.
        """
        return TransferError(f"{self._note_path} does not fit this file: {reason}. {_RESTART}")

    @property
    def _note_path(self) -> Path | None:
        return self.note.path if self.note is not None else None

    def _write(self, position: Position, *, durable: bool) -> None:
        if self.note is not None:
            content = {
                "target": self.target,
                "reading": asdict(self.reading),
                "restarted": self.restarted,
                "done": position._asdict(),
            }
            try:
                self.note.write(content, durable=durable)
            except OSError as error:
                raise self._unwritable(error) from error
        self.position = position

    def _unwritable(self, error: OSError) -> TransferError:
        before = f"{self._note_path}: the note of progress can't be written: {error.strerror}."
        if self.position == START:
            return TransferError(
                f"{before} Nothing is imported. --no-resume imports without a note."
            )
        return TransferError(
            f"{before} All up to line {self.position.line} is imported, perhaps more; the same "
            "command goes on from there."
        )


def load_checkpoint(
    path: Path | None, reading: Reading, target: dict[str, str], *, restart: bool
) -> Checkpoint:
    """Return the place from which an import goes on.

    Args:
        path: where the note is; None for a stream, which begins at its start.
        reading: how the file is read now.
        target: the database now.
        restart: begin at the first line, whatever is noted.

    Raises:
        TransferError: the note is damaged, or of another database or way of reading.
    """
    note = None if path is None else Note(path)
    fresh = Checkpoint(reading, target, note, restarted=restart)
    if note is None or restart:
        return fresh
    try:
        noted = note.read()
        if noted is None:
            return fresh
        position, restarted, before, other = _parse(noted)
    except NoteVersionError as error:
        raise TransferError(
            f"{note.path} {error}, which gave rows other ids: finish with that version. --restart "
            "begins at the first line and stores again what that version has stored."
        ) from None
    except NoteError as error:
        raise TransferError(f"{note.path} {error}. {_RESTART}") from None
    if position == START:
        return fresh
    if not is_same_target(other, target):
        raise TransferError(
            f"{note.path} is of an import into {name_of(other)}; this is {name_of(target)}"
            f"{_recreated(other, target)}. {_RESTART}"
        )
    if before != reading:
        raise fresh.mismatch(_difference(before, reading))
    return replace(fresh, position=position, restarted=restarted)


def _parse(noted: dict[str, Any]) -> tuple[Position, bool, Reading, dict[str, str]]:
    try:
        done = noted["done"]
        position = Position(int(done["line"]), int(done["size"]), str(done["sha256"]))
        return position, bool(noted["restarted"]), Reading(**noted["reading"]), noted["target"]
    except (KeyError, TypeError, ValueError):
        raise NoteError("is damaged") from None


def _recreated(noted: dict[str, str], now: dict[str, str]) -> str:
    same = all(noted.get(key) == now[key] for key in ("database", "server"))
    return ", whose collection was dropped since" if same else ""


def _difference(before: Reading, now: Reading) -> str:
    name = next(key for key, value in asdict(now).items() if asdict(before)[key] != value)
    option = f"--{name.replace('_', '-')}"
    return f"it was begun with {option} {asdict(before)[name]}, not {asdict(now)[name]}"
