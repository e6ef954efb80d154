"""Every command of the runbook, and of pages on operating the service, works as printed.

They are run from the folder deploy/.

Each is run in a shell, with the real kubectl on a cluster that is an API server alone (what takes a
node is described in kubectl_runbook.py), and with the real service behind localhost:8080.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from portfolio.devserver.mongod import Mongod
from tests.support.collector import Collector
from tests.support.gunicorn import ROOT, Gunicorn, running

from .conftest import (
    DEPLOY,
    ENVIRONMENTS,
    KUSTOMIZATIONS,
    MONITORING,
    Manifest,
    copy_of_deploy,
    install_kubectl,
    render,
    run,
    tool,
)
from .fake_cluster import FakeCluster

HOW_TO = ROOT / "docs" / "how-to"
PAGES = [
    DEPLOY / "RUNBOOK.md",
    *sorted((DEPLOY / "docs").glob("*.md")),
    *(HOW_TO / f"{name}.md" for name in ("deploy", "go-back", "migrate", "debug-a-slow-request")),
]
NAME = "globeco-portfolio-service"


def commands(page: Path) -> list[str]:
    """The commands in the shell blocks of a page; there is no container engine here."""
    pattern = re.compile(r"^ *```(?:ba)?sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
    text = re.sub(r"\\\n\s*", " ", "\n".join(pattern.findall(page.read_text())))
    text = re.sub(r"^cd deploy( && )?", "", text, flags=re.MULTILINE)
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "docker "))]


ALL_COMMANDS = [
    pytest.param(command, id=f"{page.stem}: {command}")
    for page in PAGES
    for command in dict.fromkeys(commands(page))
]


@pytest.fixture(scope="module")
def gunicorn(replica_set: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """The service, as the pod runs it."""
    with running(tmp_path_factory.mktemp("gunicorn"), replica_set.uri) as service:
        yield service


@pytest.fixture(scope="module")
def otlp() -> Iterator[str]:
    """The URL of a collector."""
    collector = Collector()
    yield f"http://{collector.start_http()}"
    collector.stop()


def secret(name: str, namespace: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
    }


def in_namespace(manifest: Manifest, namespace: str) -> Manifest:
    return manifest | {"metadata": manifest["metadata"] | {"namespace": namespace}}


def what_runs(command: str) -> list[Manifest]:
    """What the cluster holds when a reader comes to a command."""
    environment = next((e for e in ENVIRONMENTS if f" {e}" in command), "production")
    folders = [f for f in KUSTOMIZATIONS if f.startswith("monitoring/")]
    main = [
        m for f in [f"overlays/{environment}", "mongodb/production", *folders] for m in render(f)
    ]
    drill = [
        in_namespace(manifest, "globeco-drill")
        for folder in ("overlays/development", "mongodb/development")
        for manifest in render(folder)
    ]
    # A restore comes after the service was scaled to nothing.
    if "run-job.sh restore " in f"{command} ":
        main, drill = ([m for m in each if m["kind"] != "Deployment"] for each in (main, drill))
    namespace: Manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "globeco-drill"},
    }
    secrets = [
        secret(name, each)
        for name in (f"{NAME}-mongodb", f"{NAME}-mongodb-auth", "alertmanager-smtp")
        for each in ("globeco", "globeco-drill")
        if "create-secrets" not in command
    ]
    return [*main, *drill, namespace, *secrets]


@pytest.mark.slow
@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_command_works_as_printed(
    command: str, gunicorn: Gunicorn, otlp: str, replica_set: Mongod, tmp_path: Path
) -> None:
    for needed in ("bash", "jq", "curl"):
        tool(needed)
    if "-- mongosh" in command:
        tool("mongosh")
    folder = copy_of_deploy(tmp_path)  # so that nothing a command writes stays
    (folder / "smtp-password.txt").write_text("secret")
    install_kubectl(tmp_path / "bin", "kubectl_runbook.py")
    with FakeCluster(what_runs(command)) as cluster:
        (tmp_path / "kubeconfig").write_text(cluster.kubeconfig)
        environment = os.environ | {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "KUBECONFIG": str(tmp_path / "kubeconfig"),
            "HOME": str(tmp_path),
            "REAL_KUBECTL": tool("kubectl"),
            "CLUSTER_URL": cluster.url,
            "ROOT": str(ROOT),
            "FLASK_APP": "wsgi",
            "MONGODB_URI": replica_set.uri,
            "PORT": str(gunicorn.port),
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp,
            "MONGODB_PORT": str(replica_set.port),
            "PORTFOLIO_RUNTIME_DIR": str(gunicorn.log.parent / "run"),
            "HEALTH_CHECK_INTERVAL": "0",
            "JOB_CHECK_INTERVAL": "0",
        }
        shell = re.sub(r"localhost:80[08]0", f"localhost:{gunicorn.port}", command)
        shell = shell.replace("SELECTOR", f"app={NAME}")
        done = run(
            ["bash", "-o", "pipefail", "-c", shell], cwd=folder, env=environment, input="yes\n"
        )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    # jq's word for a path that is not there.
    if "jq '." in command:
        assert done.stdout.strip() not in ("", "null"), command


def test_the_runbook_is_not_empty() -> None:
    assert len(ALL_COMMANDS) > 60


def test_panels_that_are_named_are_on_a_dashboard() -> None:
    dashboards = [
        json.loads(each.read_text()) for each in (MONITORING / "dashboards").glob("*.json")
    ]
    titles = {panel["title"] for each in dashboards for panel in each["panels"]}
    paragraphs = (DEPLOY / "RUNBOOK.md").read_text().split("\n\n")
    named = [
        name
        for paragraph in paragraphs
        if "Dashboard" in paragraph
        for name in re.findall('"([^"]+)"', " ".join(paragraph.split()))
    ]
    assert len(named) > 5
    assert set(named) <= titles


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_are_there(page: Path) -> None:
    for name in re.findall(r"k8s/[\w/.-]+\w", page.read_text()):
        if "ENV" not in name:
            assert (DEPLOY / name).exists(), name
