"""Imports and exports are killed at any moment: no row is lost, and none is there twice."""

from __future__ import annotations

import gzip
import json
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from pymongo.collection import Collection

from portfolio.config import Settings
from tests.support.commands import run_process, start_process
from tests.support.gunicorn import wait_until

Documents = Collection[dict[str, Any]]


def run_until_killed(
    settings: Settings, command: str, file: Path, measure: Callable[[], float], amount: float
) -> bool:
    """Kill a command once ``measure`` has grown by ``amount``; tell whether it ended before."""
    goal = measure() + amount
    process = start_process(settings, command, file)
    wait_until(
        lambda: process.poll() is not None or measure() >= goal, f"{command} has come so far"
    )
    process.kill()
    _, told = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), told
    return process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_an_import_that_is_killed_at_any_moment_goes_on_without_gap_or_double(
    collection: Documents, settings: Settings, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    # Every fifth name stands in the file twice, in rows that are equal.
    names = [f"Fund {number - number % 5 % 2}" for number in range(6_000)]
    file = tmp_path / "funds.ndjson"
    file.write_text("".join(json.dumps({"name": name}) + "\n" for name in names))
    kills = 0
    while not run_until_killed(
        settings, "import", file, lambda: collection.count_documents({}), chance.uniform(1, 4_000)
    ):
        kills += 1
    assert kills
    stored = Counter(document["name"] for document in collection.find({}, {"name": 1}))
    assert stored == Counter(names)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all.ndjson", "all.csv", "all.csv.gz"])
def test_an_export_that_is_killed_at_any_moment_equals_a_whole_one(
    app: Flask, collection: Documents, settings: Settings, tmp_path: Path, name: str
) -> None:
    collection.insert_many({"name": f'Fund "{number}"'} for number in range(20_000))
    file, whole = tmp_path / name, tmp_path / f"whole.{name}"
    part = tmp_path / f"{name}.part"
    assert run_process(settings, "export", whole).returncode == 0
    chance, kills = random.Random(name), 0
    while not file.exists():
        kills += not run_until_killed(
            settings,
            "export",
            file,
            lambda: part.stat().st_size if part.exists() else 0,
            chance.uniform(0.02, 0.6) * whole.stat().st_size,
        )
    assert kills
    assert content(file) == content(whole)


def content(file: Path) -> bytes:
    written = file.read_bytes()
    return gzip.decompress(written) if file.suffix == ".gz" else written
