"""The two formats of portfolios, JSON lines and CSV: reading lines and rows, and writing them."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import click

from portfolio.api.responses import FIELDS, json_lines, to_json
from portfolio.cli.transfer.files import TransferError
from portfolio.models import Portfolio

FORMATS = ("ndjson", "csv")
CSV_HEADER = f"{','.join(FIELDS)}\r\n".encode()
# A portfolio takes some hundred bytes; far longer lines are from files without line ends.
_MAX_LINE = 2**20
# A byte that is not text, as Python's error handler surrogateescape decodes it.
_NOT_TEXT = re.compile("[\udc80-\udcff]")
# What a spreadsheet takes for a formula: OWASP, CSV injection.
_START = r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
# Cells that already have an apostrophe there are escaped too, so that unescaping is exact.
_TO_ESCAPE = re.compile(f"'*{_START}")
_ESCAPED = re.compile(f"'+{_START}")
_NAMES_OF_COLUMNS = f"The first line should name the columns, of {', '.join(FIELDS)}"


def encode_rows(batch: Iterable[Portfolio], format: str, *, spreadsheet_safe: bool) -> bytes:
    """Return portfolios as rows of ``format``; ``spreadsheet_safe`` is for CSV."""
    if format == "ndjson":
        return json_lines(batch)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for each in batch:
        cells = [str(cell) for cell in to_json(each).values()]
        writer.writerow(map(escape_cell, cells) if spreadsheet_safe else cells)
    return text.getvalue().encode()


def escape_cell(cell: str) -> str:
    """Return ``cell`` with an apostrophe in front if a spreadsheet would run it as a formula."""
    return f"'{cell}" if _TO_ESCAPE.match(cell) else cell


def unescape_cell(cell: str) -> str:
    """Undo ``escape_cell``."""
    return cell[1:] if _ESCAPED.match(cell) else cell


class LineError(Exception):
    """One line can't be read, the next may be; the message says why."""


class Position(NamedTuple):
    """A place in the data: the lines before it, their bytes in UTF-8, and the digest of these."""

    line: int
    size: int
    sha256: str


START = Position(0, 0, hashlib.sha256().hexdigest())


class Lines:
    """The lines of ``data``, bytes in this encoding, as text; ``line`` is how many were read.

    A byte order mark is left out.
    """

    def __init__(self, data: Any, encoding: str) -> None:
        self.line = 0
        self._encoding = encoding
        # Only where a character begins at any byte can the next line be found behind a bad one.
        errors = "strict" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
        self._text = io.TextIOWrapper(data, encoding, errors, newline="\n")
        self._digest = hashlib.sha256()
        self._size = 0

    def position(self) -> Position:
        """Return how far was read."""
        return Position(self.line, self._size, self._digest.hexdigest())

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """Return the next line, with its end.

        Raises:
            LineError: it is too long or can't be decoded; the next call goes on behind it.
            TransferError: nothing more can be read.
        """
        line = self._read()
        if not line:
            raise StopIteration
        self.line += 1
        if len(line) > _MAX_LINE:
            while line and not line.endswith("\n"):
                line = self._read()
            raise LineError(f"longer than {_MAX_LINE:,} bytes")
        bad = _NOT_TEXT.search(line)
        if bad:
            raise LineError(
                f"not {self._encoding}: byte 0x{ord(bad[0]) - 0xDC00:02x} at column "
                f"{bad.start() + 1}; --encoding names another encoding, such as cp1252"
            )
        return line.removeprefix("\ufeff") if self.line == 1 else line

    def _read(self) -> str:
        try:
            line = self._text.readline(_MAX_LINE + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise TransferError(f"after line {self.line}: broken gzip data: {error}") from error
        except UnicodeDecodeError as error:
            raise TransferError(
                f"after line {self.line}: not {self._encoding}: {error.reason}; --encoding names "
                "another encoding"
            ) from error
        text = line.encode(errors="surrogateescape")
        self._digest.update(text)
        self._size += len(text)
        return line


def read_rows(lines: Lines, format: str, *, spreadsheet_safe: bool) -> Iterator[Any]:
    """Yield the rows of ``lines``; after each, ``lines`` tells the position behind it.

    In the place of a row that can't be read is a ``LineError``, which says why. Fields that
    portfolios do not have are reported on stderr, each once. ``spreadsheet_safe`` unescapes the
    cells of CSV.

    Raises:
        TransferError: nothing behind this place can be read.
    """
    return _read_csv(lines, spreadsheet_safe) if format == "csv" else _read_json(lines)


def _read_json(lines: Lines) -> Iterator[Any]:
    known = set(FIELDS)
    decode = json.JSONDecoder(object_pairs_hook=_unique).decode
    while True:
        try:
            line = next(lines, None)
            if line is None:
                return
            if line.isspace():
                continue
            row = decode(line)
        except json.JSONDecodeError as error:
            yield LineError(
                f"not JSON: {error.msg} at column {error.colno}; each line should hold one whole "
                "portfolio"
            )
        except (LineError, ValueError, RecursionError) as error:
            yield LineError(str(error))
        else:
            if isinstance(row, dict):
                _report_unknown(row, known, lines.line)
            yield row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = [name for name in FIELDS if names.count(name) > 1]
        if repeated:
            raise ValueError(f"{', '.join(repeated)} more than once")
    return members


def _report_unknown(names: Iterable[str], known: set[str], line: int) -> None:
    for name in names:
        if name not in known:
            known.add(name)
            click.echo(f"Left out: {name!r} (line {line}) is none of {', '.join(FIELDS)}", err=True)


def _read_csv(lines: Lines, spreadsheet_safe: bool) -> Iterator[dict[str, str] | LineError]:
    reader = csv.reader(lines, strict=True)
    columns = _read_header(reader, lines)
    while True:
        begin = lines.line + 1
        try:
            cells = next(reader, None)
        except (csv.Error, LineError) as error:
            if lines.line > begin:
                # What the row has swallowed can't be told from rows of their own.
                raise TransferError(
                    f"lines {begin} to {lines.line}: {_explain(error)}; is a quote not closed in "
                    f"line {begin}?"
                ) from None
            yield LineError(_explain(error))
            continue
        if cells is None:
            return
        if any(cells[len(columns) :]):
            yield LineError(f"{len(cells)} cells under {len(columns)} columns")
        elif cells:
            texts = map(unescape_cell, cells) if spreadsheet_safe else cells
            values = dict(zip(columns, texts, strict=False))
            yield {name: values[name] for name in FIELDS if values.get(name)}


def _read_header(reader: Iterator[list[str]], lines: Lines) -> list[str]:
    try:
        columns = [column.strip() for column in next(reader, [])]
    except (csv.Error, LineError) as error:
        raise TransferError(f"line {lines.line}: {_explain(error)}") from None
    named = [column for column in columns if column]
    repeated = {name for name in named if named.count(name) > 1}
    if repeated:
        raise TransferError(
            f"{_NAMES_OF_COLUMNS}, each once; {', '.join(repeated)} stands there more than once."
        )
    if "name" not in columns:
        found = ", ".join(map(repr, columns)) or "nothing"
        other = re.search(r"[;\t|]", "".join(columns))
        hint = f" Cells should be separated by commas, not {other[0]!r}." if other else ""
        raise TransferError(f"{_NAMES_OF_COLUMNS}; name is missing. It has {found}.{hint}")
    _report_unknown(named, set(FIELDS), lines.line)
    return columns


def _explain(error: Exception) -> str:
    if isinstance(error, LineError):
        return str(error)
    # The module's own words for an unclosed quote, and for a cell that is too long.
    if "unexpected end of data" in str(error):
        return "the file ends within quotes"
    if "field limit" in str(error):
        return f"a cell of more than {csv.field_size_limit():,} characters"
    return f"not CSV: {error}"
