"""The documentation tells what the code does; ``docs/reference.md`` is compared table by table."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from flask.testing import FlaskClient

from portfolio.config import PROFILES, settings_fields
from portfolio.errors import ErrorCode, PortfolioError, code_for_status
from portfolio.observability.registry import METRICS
from portfolio.server.response import STATUSES
from tests.support.gunicorn import ROOT

DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference.md"


def table(heading: str) -> list[str]:
    """Return the rows of the table under ``heading`` in the reference."""
    section = re.split(r"^## ", REFERENCE.read_text(), flags=re.MULTILINE)
    found = next(part for part in section if part.startswith(f"{heading}\n"))
    return [line for line in found.splitlines() if line.startswith("|")][2:]


def shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or "none"


def configuration() -> Iterator[str]:
    for field in settings_fields():
        told = field.metadata
        defaults = [shown(told["defaults"][profile]) for profile in PROFILES]
        default = defaults[0] if len(set(defaults)) == 1 else " / ".join(defaults)
        if told["variable"] == "PORTFOLIO_RUNTIME_DIR":
            default = "a folder in the system's temporary one"
        yield f"| `{told['variable']}` | {default} | {told['type'].allowed} | {told['help']} |"


def endpoints(client: FlaskClient) -> Iterator[str]:
    for path, operations in client.get("/openapi.json").json["paths"].items():
        for method, operation in operations.items():
            statuses = ", ".join(sorted(operation["responses"]))
            yield f"| `{method.upper()} {path}` | {operation['summary']} | {statuses} |"


def commands(client: FlaskClient) -> Iterator[str]:
    group = client.application.cli
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if not command.callback or not command.callback.__module__.startswith("portfolio"):
            if not isinstance(command, click.Group):
                continue
            for inner, one in sorted(command.commands.items()):
                yield row(f"{name} {inner}", one)
        else:
            yield row(name, command)


def row(name: str, command: click.Command) -> str:
    usage = [name, *map(placeholder, command.params)]
    first = (command.help or "").strip().split("\n\n")[0].replace("\n", " ")
    return f"| `{' '.join(['flask', *filter(None, usage)])}` | {' '.join(first.split())} |"


def placeholder(parameter: click.Parameter) -> str:
    if not isinstance(parameter, click.Argument):
        return ""
    name = str(parameter.name).upper()
    return name if parameter.required else f"[{name}]"


def test_every_setting_is_in_the_reference_as_it_is() -> None:
    assert table("Configuration") == list(configuration())


def test_every_endpoint_is_in_the_reference_as_it_is(unit_client: FlaskClient) -> None:
    assert table("Endpoints") == list(endpoints(unit_client))


def test_every_metric_is_in_the_reference_as_it_is() -> None:
    command = [sys.executable, str(DOCS / "generate.py"), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def all_errors(kind: type[PortfolioError] = PortfolioError) -> Iterator[type[PortfolioError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from all_errors(narrower)


def test_every_error_code_is_in_the_reference_with_its_statuses() -> None:
    expected: dict[str, set[int]] = {code.value: set() for code in ErrorCode}
    for error in all_errors():
        expected[error.code].add(error.status)
    # Malformed JSON on fast; what Flask refuses; what the worker refuses.
    expected["invalid_json"].add(400)
    for status in (404, 405, 408, 413, *STATUSES.values()):
        expected[code_for_status(status)].add(status)
    rows = [row.split(" | ") for row in table("Error codes")]
    documented = {row[0].strip("| `"): set(map(int, row[1].split(", "))) for row in rows}
    assert list(documented.items()) == list(expected.items())


def test_the_codes_are_those_of_the_contract() -> None:
    section = (DOCS / "contract.md").read_text().split("\n## 6.")[1].split("\n## ")[0]
    line = section.split('`"code"`:')[1].split(" (A sibling")[0]
    assert re.findall(r"`(\w+)`", line) == [code.value for code in ErrorCode]


def contract_metrics() -> Iterator[tuple[str, set[str]]]:
    """Yield name and attributes of each metric in section 8 of the contract."""
    section = (DOCS / "contract.md").read_text().split("\n## 8.")[1].split("\n## ")[0]
    attributes: set[str] = set()
    for line in section.splitlines():
        cells = line.strip("|").split("|")
        names = re.findall(r"`(\w+)`", cells[0])
        if not line.startswith("|") or not names:
            continue
        if cells[2].strip() != "same":
            attributes = set(re.findall(r"`(\w+)`", cells[2]))
        for name in names:
            full = names[0].rpartition("_")[0] + name if name.startswith("_") else name
            yield full, attributes


def test_the_registry_has_the_metrics_of_the_contract_and_no_others() -> None:
    # Of the process the contract only says that its metrics have OpenTelemetry's own names.
    registered = {
        metric.prometheus_name: set(metric.attributes)
        for metric in METRICS
        if not metric.name.startswith(("process.", "cpython."))
    }
    assert registered == dict(contract_metrics())


def test_every_command_is_in_the_reference_as_it_is(unit_client: FlaskClient) -> None:
    assert table("Commands") == list(commands(unit_client))


def test_every_module_that_uses_a_private_api_is_in_the_architecture() -> None:
    text = (DOCS / "architecture.md").read_text()
    section = text[text.index("## Private APIs") : text.index("## Decided against")]
    told = set(re.findall(r"^\| `([\w/.]+\.py)` \| ", section, re.MULTILINE))
    modules = [*(ROOT / "portfolio").rglob("*.py")]
    used = {str(each.relative_to(ROOT / "portfolio")) for each in modules if _uses_private(each)}
    assert used <= told


def _uses_private(module: Path) -> bool:
    return "# PRIVATE API: " in module.read_text()


PAGES = sorted([*DOCS.rglob("*.md"), *(ROOT / "deploy").rglob("*.md"), *ROOT.glob("*.md")])


def anchors(page: Path) -> set[str]:
    """Return what a link may name behind ``#``."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\]\(([a-z/-]+\.md)\)", index))


def test_modules_that_documents_name_exist() -> None:
    for document in (ROOT / "CONTRIBUTING.md", ROOT / "README.md", *DOCS.rglob("*.md")):
        for name in re.findall(r"`([a-z_./]+/[a-z_]+\.py)`", document.read_text()):
            places = (ROOT / name, ROOT / "portfolio" / name)
            assert any(place.exists() for place in places), f"{document.name} names {name}"
