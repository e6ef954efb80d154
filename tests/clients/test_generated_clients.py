"""Clients that are generated from the OpenAPI document do what callers do, against the service.

The programs in ``programs/generated.py`` and ``typescript/generated.ts`` create, read, update,
search by cursor, resolve and delete.
"""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path

import pytest

from tests.clients.conftest import run, run_typescript
from tests.support.gunicorn import Gunicorn

PROGRAM = Path(__file__).parent / "programs" / "generated.py"


@pytest.fixture(scope="module")
def client(secured_service: Gunicorn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that has the generated package ``portfolio_client``."""
    folder = tmp_path_factory.mktemp("generated")
    config = folder / "config.yaml"
    config.write_text("package_name_override: portfolio_client\npost_hooks: []\n")
    printed = run(
        *("openapi-python-client", "generate", "--meta", "none", "--fail-on-warning"),
        *("--url", f"{secured_service.url}/openapi.json", "--config", str(config)),
        *("--output-path", str(folder / "portfolio_client")),
        folder=folder,
    )
    assert "warning" not in printed.lower()
    return folder


@pytest.mark.slow
def test_the_generated_python_client_works(client: Path, secured_service: Gunicorn) -> None:
    word = uuid.uuid4().hex
    run(sys.executable, PROGRAM, secured_service.url, word, folder=client, PYTHONPATH=str(client))


@pytest.mark.slow
def test_the_generated_python_client_has_strict_types(client: Path) -> None:
    run("mypy", "--strict", "--config-file=", PROGRAM, folder=client, MYPYPATH=str(client))


@pytest.mark.slow
def test_the_generated_typescript_client_works(
    secured_service: Gunicorn, node_modules: Path
) -> None:
    url = secured_service.url
    command = ("npx", "openapi-typescript", f"{url}/openapi.json", "-o", "schema.d.ts")
    run(*command, folder=node_modules)
    run_typescript("generated.ts", url, uuid.uuid4().hex, folder=node_modules)


@pytest.mark.slow
@pytest.mark.parametrize("fixture", ["service", "secured_service"])
def test_redocly_finds_neither_an_error_nor_a_warning(
    fixture: str, request: pytest.FixtureRequest, node_modules: Path
) -> None:
    document = f"{request.getfixturevalue(fixture).url}/openapi.json"
    command = ("npx", "redocly", "lint", "--format=json", document)
    printed = run(*command, folder=node_modules, REDOCLY_TELEMETRY="off")
    assert json.loads(printed)["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}
