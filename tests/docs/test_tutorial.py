"""The tutorial and the page on many portfolios work as they are printed, in order."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from portfolio.devserver.mongod import Mongod
from tests.support.calls import V2
from tests.support.gunicorn import ROOT, Gunicorn

DOCS = ROOT / "docs"
TUTORIAL = (DOCS / "tutorial.md").read_text()
MANY_PORTFOLIOS = (DOCS / "how-to" / "many-portfolios.md").read_text()
_END = "--- the end of a block ---"


def blocks() -> list[tuple[str, str]]:
    """Return each command block with the answer that is shown under it, or none."""
    pattern = r"```bash\n(.*?)```(?:\n```text\n(.*?)```)?"
    return [match.groups(default="") for match in re.finditer(pattern, TUTORIAL, re.DOTALL)]


def matches(shown: str, answered: str) -> bool:
    """Tell whether ``answered`` is what is ``shown``, where ``…`` stands for anything."""
    pattern = ".*".join(map(re.escape, " ".join(shown.split()).split("…")))
    return re.fullmatch(pattern, " ".join(answered.split())) is not None


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl on PATH")
def test_the_tutorial_works_as_printed(
    serve: Callable[..., Gunicorn], replica_set: Mongod, tmp_path: Path
) -> None:
    database_name = f"tutorial-{uuid.uuid4().hex[:16]}"
    gunicorn = serve(replica_set.uri, MONGODB_DB=database_name)
    gunicorn.wait_ready()
    script = "".join(f"{commands}echo; echo '{_END}'\n" for commands, _ in blocks())
    script = script.replace("http://localhost:8000", gunicorn.url)
    script = script.replace("/tmp/portfolios", str(tmp_path / "portfolios"))
    script = script.replace(".tox/serve/bin/flask", f"{sys.executable} -m flask")
    environment = {"MONGODB_URI": replica_set.uri, "MONGODB_DB": database_name}
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    answers = ran.stdout.split(_END)[:-1]
    assert len(answers) == len(blocks()) >= 15
    for (commands, shown), answered in zip(blocks(), answers, strict=True):
        assert matches(shown, answered), f"{commands}\nshown:\n{shown}\nanswered:\n{answered}"


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl on PATH")
def test_the_page_on_many_portfolios_works_as_printed(
    serve: Callable[..., Gunicorn], replica_set: Mongod, database_name: str, tmp_path: Path
) -> None:
    gunicorn = serve(replica_set.uri, MONGODB_DB=database_name)
    gunicorn.wait_ready()
    requests.post(gunicorn.url + V2, json=[{"name": "One"}, {"name": "Two"}], timeout=10)
    (tmp_path / "funds.ndjson").write_text('{"name": "Asia"}\n{"name": "Europe"}\n')
    page = MANY_PORTFOLIOS.replace("http://localhost:8000", gunicorn.url)
    commands = "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL))
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "MONGODB_URI": replica_set.uri,
        "MONGODB_DB": database_name,
    }
    printed = []
    for command in (["bash", "-euo", "pipefail", "-c", commands], [sys.executable, "-c", program]):
        ran = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        printed.append(ran.stdout)
    *listed, again, filtered = printed[0].splitlines()
    assert [json.loads(line)["name"] for line in listed] == ["One", "Two"]
    assert again.startswith("0 imported, 2 there already")
    assert filtered.startswith("1 imported")
    assert sorted(printed[1].splitlines()) == ["Asia", "One", "Two"]
