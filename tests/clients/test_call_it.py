"""The files of ``docs/how-to/call-it.md`` work as they are printed, on a network that fails.

In each language a program does the same with them: it creates three portfolios, whatever becomes of
the first response, searches for them in pages of two, resolves one name and an unknown one, and
renames the first portfolio, which somebody else changes in between.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import run, run_typescript
from tests.clients.flaky import FlakyService
from tests.support.gunicorn import ROOT

PAGE = (ROOT / "docs" / "how-to" / "call-it.md").read_text()
PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
def word() -> str:
    """A word that stands in the names of this test's portfolios alone."""
    return f"w{uuid.uuid4().hex[:12]}"


def write_file(language: str, path: Path, flaky: FlakyService) -> None:
    """Write the file that the page prints in ``language``, for the service behind ``flaky``."""
    (block,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert block.count("http://localhost:8000") == 1
    path.write_text(block.replace("http://localhost:8000", flaky.url))


def check(printed: str, word: str, flaky: FlakyService) -> None:
    """Check what a program has printed, and what it has sent."""
    told: dict[str, Any] = json.loads(printed)
    created = told["created"]
    assert [portfolio["name"] for portfolio in created] == [f"{word} {i}" for i in range(3)]
    found = told.get("found") or [each for page in told["pages"] for each in page["portfolios"]]
    identify = {portfolio["portfolioId"]: portfolio["name"] for portfolio in created}
    assert {each["portfolioId"]: each["name"] for each in found} == identify
    assert len(found) == 3, "a response was lost, but no portfolio was created twice"
    resolved = told["resolved"]
    assert [each["portfolioId"] for each in resolved["portfolios"]] == [created[1]["portfolioId"]]
    assert resolved["missing"] == {"ids": ["nonsense"], "names": [f"{word} unknown"]}
    renamed = told["renamed"]
    assert renamed["name"] == f"{word} renamed"
    assert (renamed["portfolioId"], renamed["version"]) == (created[0]["portfolioId"], 3)
    assert flaky.statuses["POST"] == [0, 503, 201, 201, 201, 200]
    assert flaky.statuses["PUT"] == [409, 200]


def test_the_python_file_works_as_printed(flaky: FlakyService, word: str, tmp_path: Path) -> None:
    write_file("python", tmp_path / "portfolios.py", flaky)
    shutil.copy(PROGRAMS / "call_it.py", tmp_path)
    check(run(sys.executable, "call_it.py", word, folder=tmp_path), word, flaky)


@pytest.mark.slow
def test_the_typescript_file_works_as_printed(
    flaky: FlakyService, word: str, node_modules: Path
) -> None:
    write_file("typescript", node_modules / "portfolios.ts", flaky)
    check(run_typescript("call_it.ts", word, folder=node_modules), word, flaky)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("javac"), reason="no javac on PATH")
def test_the_java_file_works_as_printed(flaky: FlakyService, word: str, tmp_path: Path) -> None:
    write_file("java", tmp_path / "Portfolios.java", flaky)
    shutil.copy(PROGRAMS / "CallIt.java", tmp_path)
    run("javac", "-Xlint:all", "-Werror", "CallIt.java", "Portfolios.java", folder=tmp_path)
    check(run("java", "CallIt", word, folder=tmp_path), word, flaky)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("go"), reason="no go on PATH")
def test_the_go_file_works_as_printed(flaky: FlakyService, word: str, tmp_path: Path) -> None:
    (tmp_path / "portfolios").mkdir()
    write_file("go", tmp_path / "portfolios" / "portfolios.go", flaky)
    (tmp_path / "go.mod").write_text("module example\n")
    shutil.copy(PROGRAMS / "call_it.go", tmp_path)
    cache = str(tmp_path / "cache")
    run("go", "vet", "./...", folder=tmp_path, GOCACHE=cache, GOFLAGS="-mod=mod")
    check(run("go", "run", ".", word, folder=tmp_path, GOCACHE=cache), word, flaky)
