"""Shared by the tests of deploy/: where things are, the rendered manifests, the tools."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.gunicorn import ROOT

DEPLOY = ROOT / "deploy"
K8S = DEPLOY / "k8s"
MONITORING = K8S / "monitoring"

ENVIRONMENTS = ["development", "staging", "production"]
OVERLAYS = [f"overlays/{environment}" for environment in ENVIRONMENTS]
MONGODB = ["mongodb/development", "mongodb/production"]
MONITORING_PARTS = [
    f"monitoring/{part}"
    for part in ("collector", "kube-state", "rules", "dashboards", "alerting", "collector-traces")
]
KUSTOMIZATIONS = OVERLAYS + MONGODB + MONITORING_PARTS

Manifest = dict[str, Any]


def tool(name: str) -> str:
    """The path of a program; skips the test, and says how to get it, where there is none."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not on PATH: `tox -e deploy` fetches what can be fetched")
    return path


@functools.cache
def render(folder: str) -> tuple[Manifest, ...]:
    """Every manifest that `kubectl kustomize deploy/k8s/FOLDER` gives."""
    command = [tool("kubectl"), "kustomize", str(K8S / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, f"kustomize warns: {done.stderr}"
    manifests = yaml.load_all(done.stdout, Loader=yaml.CSafeLoader)  # dashboards are long
    return tuple(manifest for manifest in manifests if manifest)


def find(manifests: tuple[Manifest, ...], kind: str, name: str | None = None) -> Manifest:
    """The one manifest of a kind (and name)."""
    found = [
        manifest
        for manifest in manifests
        if manifest["kind"] == kind and name in (None, manifest["metadata"]["name"])
    ]
    assert len(found) == 1, f"{len(found)} of {kind} {name or ''}"
    return found[0]


def pod_of(folder: str, kind: str = "Deployment") -> Manifest:
    """The pod that the one Deployment of a folder makes, or that of another kind."""
    pod: Manifest = find(render(folder), kind)["spec"]["template"]["spec"]
    return pod


def container_of(folder: str) -> Manifest:
    """The one container of such a pod."""
    (container,) = pod_of(folder)["containers"]
    return container


def pod_templates(manifests: tuple[Manifest, ...]) -> list[tuple[str, Manifest]]:
    """(kind/name, pod template) of everything that makes pods."""
    templates = []
    for manifest in manifests:
        spec = manifest.get("spec", {})
        if manifest["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            name = f"{manifest['kind']}/{manifest['metadata']['name']}"
            templates.append((name, spec["template"]))
    return templates


def containers(template: Manifest) -> list[Manifest]:
    """Every container of a pod template, those of initialisation too."""
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def expressions(path: Path) -> list[str]:
    """Every PromQL expression of a dashboard, with Grafana's variables filled in."""
    dashboard = json.loads(path.read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [e.replace("$__rate_interval", "4m").replace("$environment", ".*") for e in found]


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, both streams as text; never raises for its exit status."""
    options.setdefault("env", os.environ | {"LC_ALL": "C"})
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, **options
    )


def copy_of_deploy(folder: Path) -> Path:
    """Copy deploy/ into a folder, but for what a script renders beside the manifests meanwhile."""
    ignored = shutil.ignore_patterns(".render.*")
    return Path(shutil.copytree(DEPLOY, folder / "deploy", ignore=ignored))


def install_kubectl(folder: Path, program: str, *options: str) -> None:
    """Put a program that lies beside this file into a folder of PATH, in the place of kubectl."""
    folder.mkdir(exist_ok=True)
    source = (Path(__file__).parent / program).read_text()
    path = folder / "kubectl"
    path.write_text(f"#!{' '.join([sys.executable, *options])}\n{source}")
    path.chmod(0o755)
