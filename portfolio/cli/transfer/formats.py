"""The two formats, what tells them apart, and how portfolios are written in each."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import orjson

from portfolio.cli.transfer.spreadsheet import escape_cell
from portfolio.cli.transfer.streams import STANDARD_INPUT, descriptor_of
from portfolio.models import Portfolio

FORMATS = ("ndjson", "csv")
COLUMNS = tuple(Portfolio.__annotations__)
CSV_HEADER = f"{','.join(COLUMNS)}\r\n".encode()
# The id at the beginning of a row that an export has written.
ROW_ID = {
    "ndjson": re.compile(rb'\{"portfolioId":"([0-9a-f]{24})"'),
    "csv": re.compile(rb"([0-9a-f]{24}),"),
}


def is_compressed(file: Path) -> bool:
    """Tell from the name of ``file`` whether it is compressed with gzip."""
    return file.suffix.lower() == ".gz"


def uncompressed_name(file: Path) -> str:
    """Return the name of ``file`` without ``.gz``."""
    return file.stem if is_compressed(file) else file.name


def label_of(file: Path, given: str | None) -> str:
    """Return what tells the rows of ``file`` from equal rows of others: by default its name.

    All names of open descriptors, such as ``/dev/fd/63``, have the label of the standard input.
    """
    if given is None:
        is_open = descriptor_of(file, STANDARD_INPUT) is not None
        given = "-" if is_open else uncompressed_name(file)
    # Names of files may hold bytes that are no text.
    return given.encode(errors="backslashreplace").decode()


def format_of(file: Path, given: str | None) -> str:
    """Return the format of ``file``: the given one, else csv where its name says so."""
    return given or ("csv" if uncompressed_name(file).lower().endswith(".csv") else "ndjson")


def encoder(format: str, *, spreadsheet_safe: bool) -> Callable[[Iterable[Portfolio]], bytes]:
    """Return what turns portfolios into rows of ``format``.

    Args:
        format: one of ``FORMATS``.
        spreadsheet_safe: escape the cells of CSV that a spreadsheet would take for a formula.
    """
    if format == "ndjson":
        return lambda batch: b"".join(orjson.dumps(each) + b"\n" for each in batch)

    def encode(batch: Iterable[Portfolio]) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        for each in batch:
            cells = [str(each[column]) for column in COLUMNS]  # type: ignore[literal-required]
            writer.writerow(map(escape_cell, cells) if spreadsheet_safe else cells)
        return text.getvalue().encode()

    return encode
