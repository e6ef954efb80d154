"""The two formats of portfolios, JSON lines and CSV: reading lines and rows, and writing them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import click

from portfolio.api.requests import parse_json
from portfolio.api.responses import FIELDS, json_lines, to_json
from portfolio.cli.transfer.files import LineError, Lines, TransferError
from portfolio.models import Portfolio

FORMATS = ("ndjson", "csv")
CSV_HEADER = f"{','.join(FIELDS)}\r\n".encode()
# What a spreadsheet takes for a formula: OWASP, CSV injection.
_START = r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
# Cells that already have an apostrophe there are escaped too, so that unescaping is exact.
_TO_ESCAPE = re.compile(rf"\A(?='*{_START})")
_ESCAPED = re.compile(rf"\A'(?='*{_START})")
_NAMES_OF_COLUMNS = f"The first line should name the columns, of {', '.join(FIELDS)}"


def encode_rows(batch: Iterable[Portfolio], format: str, *, spreadsheet_safe: bool) -> bytes:
    """Return portfolios as rows of ``format``; ``spreadsheet_safe`` is for CSV."""
    if format == "ndjson":
        return json_lines(batch)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for each in batch:
        cells = ["" if cell is None else str(cell) for cell in to_json(each).values()]
        writer.writerow(map(escape_cell, cells) if spreadsheet_safe else cells)
    return text.getvalue().encode()


def escape_cell(cell: str) -> str:
    """Return ``cell`` with an apostrophe in front if a spreadsheet would run it as a formula."""
    return _TO_ESCAPE.sub("'", cell)


def unescape_cell(cell: str) -> str:
    """Undo ``escape_cell``."""
    return _ESCAPED.sub("", cell)


def read_rows(
    lines: Lines, format: str, *, spreadsheet_safe: bool
) -> Iterator[dict[str, Any] | LineError]:
    """Yield the rows of ``lines``; for a row that can't be read, a ``LineError`` that says why.

    ``lines.line`` is the last line of the row. Fields that portfolios do not have are reported on
    stderr, each once. ``spreadsheet_safe`` unescapes the cells of CSV.

    Raises:
        TransferError: the rest can't be read.
    """
    rows = _csv_rows(lines, spreadsheet_safe) if format == "csv" else _json_rows(lines)
    while True:
        begin = lines.line + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except (LineError, csv.Error, ValueError, RecursionError) as error:
            if lines.line > begin:
                # Which of these lines are rows of their own is not known.
                raise TransferError(
                    f"lines {begin} to {lines.line}: {_explain(error)}; is a quote not closed in "
                    f"line {begin}?"
                ) from None
            yield LineError(_explain(error))
        else:
            if row is not None:
                yield row


def _json_rows(lines: Lines) -> Iterator[dict[str, Any] | None]:
    """Return the objects in ``lines``, and None for blank ones.

    Like ``_csv_rows`` it continues with the next row after an exception, as a generator could not.
    """
    known = set(FIELDS)

    def to_row(line: str) -> dict[str, Any] | None:
        if line.isspace():
            return None
        if line.lstrip().startswith("["):
            raise LineError("a JSON array; `jq -c '.[]'` makes one portfolio a line of it")
        row = parse_json(line)
        if not isinstance(row, dict):
            raise LineError("Input should be an object")
        _report_unknown(row, known, lines.line)
        return row

    return map(to_row, lines)


def _report_unknown(names: Iterable[str], known: set[str], line: int) -> None:
    for name in names:
        if name not in known:
            known.add(name)
            click.echo(f"Ignored: {name!r} (line {line}) is none of {', '.join(FIELDS)}", err=True)


def _csv_rows(lines: Lines, spreadsheet_safe: bool) -> Iterator[dict[str, Any] | None]:
    """Return the rows of CSV, and None for those without content, which spreadsheets may append."""
    reader = csv.reader(lines, strict=True)
    columns = _read_header(reader, lines)

    def to_row(cells: list[str]) -> dict[str, Any] | None:
        if any(cells[len(columns) :]):
            raise LineError(f"{len(cells)} cells under {len(columns)} columns")
        texts = map(unescape_cell, cells) if spreadsheet_safe else cells
        values = dict(zip(columns, texts, strict=False))
        return {name: values[name] for name in FIELDS if values.get(name)} if any(cells) else None

    return map(to_row, reader)


def _read_header(reader: Iterator[list[str]], lines: Lines) -> list[str]:
    try:
        columns = [column.strip() for column in next(reader, [])]
    except (csv.Error, LineError) as error:
        raise TransferError(f"line {lines.line}: {_explain(error)}") from None
    named = [column for column in columns if column]
    repeated = {name for name in named if named.count(name) > 1}
    if repeated:
        raise TransferError(
            f"{_NAMES_OF_COLUMNS}, each once; {', '.join(repeated)} is there more than once."
        )
    if "name" not in columns:
        found = ", ".join(map(repr, columns)) or "nothing"
        other = re.search(r"[;\t|]", "".join(columns))
        hint = f" Cells should be separated by commas, not {other[0]!r}." if other else ""
        raise TransferError(f"{_NAMES_OF_COLUMNS}; name is missing. It has {found}.{hint}")
    _report_unknown(named, set(FIELDS), lines.line)
    return columns


def _explain(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return (
            f"not JSON: {error.msg} at column {error.colno}; each line should hold one whole "
            "portfolio. For CSV add --format csv"
        )
    if not isinstance(error, csv.Error):
        return str(error)
    # The module's own words for an unclosed quote, and for a cell that is too long.
    if "unexpected end of data" in str(error):
        return "the file ends within quotes"
    if "new-line character" in str(error):
        return "a line ends with CR alone; each should end with LF, or CR and LF"
    if "field limit" in str(error):
        return f"a cell of more than {csv.field_size_limit():,} characters"
    return f"not CSV: {error}"
