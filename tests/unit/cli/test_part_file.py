"""The unfinished file of an export, where two exports meet."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from portfolio.cli.transfer.files import TransferError, open_part


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
    with pytest.raises(TransferError, match="Another export"), open_part(path, file) as part:
        part.truncate(0)
    assert file.read_bytes() == b"finished\n"
