"""The two formats of portfolios, JSON lines and CSV: reading rows and writing them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import orjson

from portfolio.api.responses import FIELDS, to_json
from portfolio.cli.transfer.files import TransferError
from portfolio.cli.transfer.source import LineError, Lines
from portfolio.models import Portfolio

FORMATS = ("ndjson", "csv")
COLUMNS = FIELDS
CSV_HEADER = f"{','.join(COLUMNS)}\r\n".encode()
# The id at the beginning of an exported row.
ROW_ID = {
    "ndjson": re.compile(rb'\{"portfolioId":"([0-9a-f]{24})"'),
    "csv": re.compile(rb"([0-9a-f]{24}),"),
}
# What a spreadsheet takes for a formula: OWASP, CSV injection.
_START = r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
# Cells that already have an apostrophe there are escaped too, so that unescaping is exact.
_TO_ESCAPE = re.compile(f"'*{_START}")
_ESCAPED = re.compile(f"'+{_START}")
_KNOWN = frozenset(COLUMNS)
_NAMES_OF_COLUMNS = f"The first line should name the columns, of {', '.join(COLUMNS)}"


def encoder(format: str, *, spreadsheet_safe: bool) -> Callable[[Iterable[Portfolio]], bytes]:
    """Return the function that encodes portfolios as rows; ``spreadsheet_safe`` is for CSV."""
    if format == "ndjson":
        return lambda batch: b"".join(
            orjson.dumps(each, to_json, orjson.OPT_APPEND_NEWLINE) for each in batch
        )

    def encode(batch: Iterable[Portfolio]) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        for each in batch:
            cells = [str(cell) for cell in to_json(each).values()]
            writer.writerow(map(escape_cell, cells) if spreadsheet_safe else cells)
        return text.getvalue().encode()

    return encode


def escape_cell(cell: str) -> str:
    """Return ``cell`` with an apostrophe in front if a spreadsheet would run it as a formula."""
    return f"'{cell}" if _TO_ESCAPE.match(cell) else cell


def unescape_cell(cell: str) -> str:
    """Undo ``escape_cell``."""
    return cell[1:] if _ESCAPED.match(cell) else cell


class Row(NamedTuple):
    """One portfolio of a file, as it stands there.

    Attributes:
        line: the number of its last line, from 1.
        values: its fields; None where it could not be read.
        fault: why not.
    """

    line: int
    values: Any
    fault: str = ""


# Called with each name that is not a field, and its line.
UnknownHandler = Callable[[str, int], None]


def read_rows(
    lines: Lines, format: str, unknown: UnknownHandler, *, spreadsheet_safe: bool
) -> Iterator[Row]:
    """Yield the rows of ``lines``; after each, ``lines`` tells the position behind it.

    Args:
        lines: what to read.
        format: ``ndjson`` or ``csv``.
        unknown: told of what is left out.
        spreadsheet_safe: take back what made the cells of CSV safe for spreadsheets.

    Raises:
        TransferError: nothing behind this place can be read.
    """
    if format == "csv":
        return _csv_rows(lines, unknown, spreadsheet_safe=spreadsheet_safe)
    return _json_rows(lines, unknown)


def _json_rows(lines: Lines, unknown: UnknownHandler) -> Iterator[Row]:
    while True:
        try:
            line = next(lines)
        except StopIteration:
            return
        except LineError as error:
            yield Row(lines.line, None, str(error))
            continue
        if line.isspace():
            continue
        try:
            values = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield Row(lines.line, None, f"not JSON: {error}{_hint(line)}")
            continue
        if not isinstance(values, dict):
            yield Row(lines.line, values)
            continue
        for name in values.keys() - _KNOWN:
            unknown(name, lines.line)
        repeated = _repeated_names(line)
        fault = f"{', '.join(repeated)} more than once" if repeated else ""
        yield Row(lines.line, None if repeated else values, fault)


def _hint(line: str) -> str:
    if line.strip() in ("[", "{"):
        return "; each line should hold one whole portfolio"
    return ""


def _repeated_names(line: str) -> list[str]:
    """Return the fields that a JSON object names more than once; most rows need no second look."""
    if all(line.count(f'"{name}"') < 2 for name in COLUMNS):
        return []
    # Inner objects are handed over first, the row itself last.
    objects: list[list[tuple[str, Any]]] = []
    json.loads(line, object_pairs_hook=objects.append)
    names = Counter(name for name, _ in objects[-1])
    return [name for name in COLUMNS if names[name] > 1]


def _csv_rows(lines: Lines, unknown: UnknownHandler, *, spreadsheet_safe: bool) -> Iterator[Row]:
    reader = csv.reader(lines, strict=True)
    columns = _read_header(reader, lines, unknown)
    while True:
        begin = lines.line + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, LineError) as error:
            if lines.line > begin:
                # What the row has swallowed can't be told from rows of their own.
                raise TransferError(
                    f"lines {begin} to {lines.line}: {_explain(error)}; is a quote not closed in "
                    f"line {begin}?"
                ) from None
            yield Row(lines.line, None, _explain(error))
            continue
        if not cells:
            continue
        if any(cells[len(columns) :]):
            yield Row(lines.line, None, f"{len(cells)} cells under {len(columns)} columns")
            continue
        if spreadsheet_safe:
            cells = list(map(unescape_cell, cells))
        named = zip(columns, cells, strict=False)
        yield Row(lines.line, {key: value for key, value in named if key in _KNOWN and value})


def _read_header(reader: Iterator[list[str]], lines: Lines, unknown: UnknownHandler) -> list[str]:
    try:
        columns = [column.strip() for column in next(reader, [])]
    except (csv.Error, LineError) as error:
        raise TransferError(f"line {lines.line}: {_explain(error)}") from None
    repeated = [name for name, times in Counter(columns).items() if name and times > 1]
    if repeated:
        raise TransferError(
            f"{_NAMES_OF_COLUMNS}, each once; {', '.join(repeated)} stands there more than once."
        )
    if "name" not in columns:
        found = ", ".join(map(repr, columns)) or "nothing"
        raise TransferError(
            f"{_NAMES_OF_COLUMNS}; name is missing. It has {found}.{_separator(columns)}"
        )
    for column in columns:
        if column and column not in _KNOWN:
            unknown(column, lines.line)
    return columns


def _separator(columns: list[str]) -> str:
    separators = [each for each in (";", "\t", "|") if any(each in name for name in columns)]
    return f" Cells should be separated by commas, not {separators[0]!r}." if separators else ""


def _explain(error: Exception) -> str:
    if isinstance(error, LineError):
        return str(error)
    # The module's own words for an unclosed quote, and for a cell that is too long.
    if "unexpected end of data" in str(error):
        return "the file ends within quotes"
    if "field limit" in str(error):
        return f"a cell of more than {csv.field_size_limit():,} characters"
    return f"not CSV: {error}"
