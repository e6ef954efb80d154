"""The parts of imports and exports that need no database."""

from __future__ import annotations

import io
from datetime import datetime
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio.cli.transfer.files import LineError, Lines, label_of
from portfolio.cli.transfer.formats import encode_rows, escape_cell, read_rows, unescape_cell
from portfolio.cli.transfer.importer import RowIdentities
from portfolio.models import Portfolio, PortfolioCreate


@given(st.text(st.sampled_from("'=+-@\t\r\n\uff1da 1"), max_size=6))
def test_an_escaped_cell_comes_back_and_is_no_formula(cell: str) -> None:
    escaped = escape_cell(cell)
    assert unescape_cell(escaped) == cell
    assert not escaped.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"))


@pytest.mark.parametrize("safe", [False, True])
def test_a_value_that_is_missing_is_an_empty_cell(safe: bool) -> None:
    nameless = Portfolio("0" * 24, cast("str", None), datetime(2024, 1, 1), 1)
    row = encode_rows([nameless], "csv", spreadsheet_safe=safe)
    assert row == b"000000000000000000000000,,2024-01-01T00:00:00.000Z,1\r\n"


def ids(label: str, *names: str) -> list[str]:
    identities = RowIdentities(label)
    return [str(identities.next(PortfolioCreate(name))) for name in names]


def test_equal_rows_of_a_file_have_ids_of_their_own() -> None:
    assert len(set(ids("file", "A", "A", "B", "A"))) == 4


def test_an_id_does_not_depend_on_where_a_row_stands() -> None:
    assert sorted(ids("file", "A", "B", "A")) == sorted(ids("file", "A", "A", "B"))
    assert ids("file", "X", "A")[1] == ids("file", "A")[0]


def test_an_id_depends_on_the_label_and_on_every_field() -> None:
    rows = [
        PortfolioCreate("A"),
        PortfolioCreate("B"),
        PortfolioCreate("A", version=2),
        PortfolioCreate("A", datetime(2024, 1, 1)),
    ]
    found = {str(RowIdentities(label).next(row)) for row in rows for label in ("one", "two")}
    assert len(found) == 8


@pytest.mark.parametrize(
    ("file", "label"),
    [
        ("/some/funds.csv", "funds.csv"),
        ("funds.csv.gz", "funds.csv"),
        ("-", "-"),
        ("/dev/fd/63", "-"),
        ("/dev/stdin", "-"),
        ("f\udcffnds", "f\\udcffnds"),
    ],
)
def test_the_label_of_a_file_is_its_name(file: str, label: str) -> None:
    assert label_of(Path(file), None) == label
    assert label_of(Path(file), "given") == "given"
    RowIdentities(label).next(PortfolioCreate("A"))


def test_ids_stay_as_they_are() -> None:
    # A new version that gave others would store files twice.
    row = PortfolioCreate("Größe", datetime(2024, 1, 20, 14, 45, 0, 123000), 3)
    identities = RowIdentities("funds.ndjson")
    assert [str(identities.next(row)) for _ in range(2)] == [
        "b4e457af04e3ba475a890a4a",
        "b93ae651907d83bb10667a21",
    ]


def lines_of(content: bytes) -> Lines:
    return Lines(io.BufferedReader(io.BytesIO(content)), "utf-8")


def read(content: bytes) -> list[str]:
    lines = lines_of(content)
    found = []
    while True:
        try:
            found.append(next(lines))
        except StopIteration:
            return found
        except LineError as error:
            found.append(f"{lines.line}: {error}")


def test_lines_go_on_behind_one_that_can_not_be_read() -> None:
    assert read(b"a\n\xff\nb\n" + b"x" * (2**20 + 5) + b"\nc") == [
        "a\n",
        "2: not utf-8: byte 0xff at column 1; --encoding names another encoding, such as cp1252",
        "b\n",
        "4: longer than 1,048,576 bytes; each line should hold one portfolio",
        "c",
    ]


def test_only_line_feeds_end_lines() -> None:
    # Unicode has other line separators, which JSON allows within strings.
    assert read("a\u2028b\x85\n\x0cc".encode()) == ["a\u2028b\x85\n", "\x0cc"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'name,version\n"two\nlines",1\nA,2\n', [(3, "two\nlines"), (4, "A")]),
        (b"name,\nA,\n,\n", [(2, "A")]),
        (b"\xef\xbb\xbf name ,x\r\nA\r\n\r\nB,1\r\n", [(2, "A"), (4, "B")]),
    ],
)
def test_rows_of_csv_and_their_lines(content: bytes, expected: list[tuple[int, str]]) -> None:
    lines = lines_of(content)
    rows = read_rows(lines, "csv", spreadsheet_safe=False)
    assert [(lines.line, row["name"]) for row in rows] == expected


def test_a_field_within_a_field_is_no_repetition() -> None:
    line = b'{"name": "A", "owner": {"name": "B"}, "note": "\\"name\\" again"}\n'
    rows = read_rows(lines_of(line), "ndjson", spreadsheet_safe=False)
    assert [row["name"] for row in rows] == ["A"]
