"""What tests of clients share: the real service, and the same behind a network that fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from portfolio.devserver.mongod import Mongod
from tests.clients.flaky import FlakyService
from tests.support.gunicorn import Gunicorn, running

TYPESCRIPT = Path(__file__).parent / "typescript"


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """Return what a program prints, or fail with all of it."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ran = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def run_typescript(program: str, *arguments: str, folder: Path) -> str:
    """Compile a program in its strictest mode, run it and return what it prints."""
    strictest = ("--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes")
    kind = ("--target", "es2022", "--module", "nodenext", "--types", "node")
    run("npx", "tsc", *strictest, *kind, "--outDir", "built", program, folder=folder)
    return run("node", f"built/{Path(program).stem}.js", *arguments, folder=folder)


@pytest.fixture(scope="session")
def service(replica_set: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """The service, with a database of its own."""
    yield from _serve(replica_set, tmp_path_factory)


@pytest.fixture(scope="session")
def secured_service(
    replica_set: Mongod, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gunicorn]:
    """The service where callers need the API key ``secret``."""
    yield from _serve(replica_set, tmp_path_factory, API_KEYS="secret")


def _serve(
    mongod: Mongod, folders: pytest.TempPathFactory, **environment: str
) -> Iterator[Gunicorn]:
    database = f"clients-{uuid.uuid4().hex[:16]}"
    environment |= {"MONGODB_DB": database, "WEB_CONCURRENCY": "1"}
    with running(folders.mktemp("clients"), mongod.uri, **environment) as gunicorn:
        yield gunicorn


@pytest.fixture
def flaky(service: Gunicorn) -> Iterator[FlakyService]:
    """The same service behind a network that fails in every way that a client should survive."""
    with FlakyService(service.url) as flaky:
        yield flaky


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ``tests/clients/typescript`` with its packages."""
    if not shutil.which("npm"):
        pytest.skip("no npm on PATH")
    folder = tmp_path_factory.mktemp("node") / "typescript"
    shutil.copytree(TYPESCRIPT, folder)
    run("npm", "ci", "--no-audit", "--no-fund", folder=folder)
    return folder
