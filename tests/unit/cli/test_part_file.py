"""What an unfinished export is resumed from: its whole rows, wherever it was torn."""

from __future__ import annotations

import fcntl
from datetime import datetime
from pathlib import Path

import pytest

from portfolio.cli.transfer.files import TransferError
from portfolio.cli.transfer.formats import CSV_HEADER, encode_rows
from portfolio.cli.transfer.partfile import compress, find_whole_rows, open_part
from portfolio.models import Portfolio

NAMES = ('a "quoted" one', "two\r\nlines", "Größe, 7", '"')
PORTFOLIOS = [
    Portfolio(id=f"{number:024x}", name=name, date_created=datetime(2024, 1, 1), version=1)
    for number, name in enumerate(NAMES, start=1)
]


def steps(format: str) -> list[bytes]:
    """Return what an export writes, row by row, its header with the first."""
    rows = [encode_rows([each], format, spreadsheet_safe=False) for each in PORTFOLIOS]
    if format == "csv":
        rows[0] = CSV_HEADER + rows[0]
    return rows


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("format", ["ndjson", "csv"])
def test_a_torn_row_is_cut_off_at_every_byte(tmp_path: Path, format: str, compressed: bool) -> None:
    path = tmp_path / "part"
    rows = steps(format)
    written = [compress(row) for row in rows] if compressed else rows
    whole = b"".join(written)
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        with path.open("rb") as part:
            found = find_whole_rows(part, format, compressed=compressed)
        kept = max(n for n in range(len(written) + 1) if len(b"".join(written[:n])) <= end)
        assert found.rows == kept
        assert found.last == (f"{kept:024x}" if kept else None)
        # The header of CSV may be kept without a row.
        header = CSV_HEADER if format == "csv" and end >= len(CSV_HEADER) else b""
        assert found.size == (len(b"".join(written[:kept])) or (0 if compressed else len(header)))


def test_a_part_that_another_export_writes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "part"
    with path.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        refused = pytest.raises(TransferError, match="Another export is writing")
        with refused, open_part(path, tmp_path / "all"):
            pass


def test_a_part_that_was_put_in_place_meanwhile_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, file = tmp_path / "part", tmp_path / "all"
    path.write_bytes(b"finished\n")
    flock = fcntl.flock

    def finish_first(out: object, operation: int) -> None:
        if path.exists() and path.read_bytes() == b"finished\n":
            path.replace(file)
        flock(out, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", finish_first)
    with open_part(path, file) as part:
        part.truncate(0)
    assert file.read_bytes() == b"finished\n"
    assert path.read_bytes() == b""
