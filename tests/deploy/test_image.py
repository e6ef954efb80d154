"""The Dockerfile, its locked requirements and compose.yaml, as far as they can be judged unbuilt.

tests/image builds the image and runs it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from portfolio.config import settings_fields
from tests.support.gunicorn import ROOT
from tests.support.requirements import pins

from .conftest import (
    DEPLOY,
    KUSTOMIZATIONS,
    containers,
    pod_templates,
    render,
    run,
    tool,
)

DOCKERFILE = ROOT / "Dockerfile"
LOCK = DEPLOY / "requirements.lock"


def instructions(word: str) -> list[str]:
    """What follows an instruction of the Dockerfile, each time that it is given."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    return re.findall(rf"^{word} (.*)$", text, re.MULTILINE)


class TestDockerfile:
    def test_hadolint_has_nothing_to_say(self) -> None:
        done = run([tool("hadolint"), str(DOCKERFILE)])
        assert done.returncode == 0, done.stdout

    def test_runs_as_a_number_that_is_not_root(self) -> None:
        assert instructions("USER") == ["10001:10001"]

    def test_both_stages_stand_on_the_newest_python_that_is_tested(self) -> None:
        (image,) = (rest for rest in instructions("ARG") if rest.startswith("PYTHON_IMAGE="))
        version = re.fullmatch(r"PYTHON_IMAGE=python:3\.(\d+)\.\d+-slim-\w+", image)
        assert version, "a tag that does not move"
        assert version[1] == max(re.findall(r"py3(\d+)", (ROOT / "tox.ini").read_text()), key=int)
        assert instructions("FROM") == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]

    def test_labels_tell_what_it_is_and_where_it_comes_from(self) -> None:
        (label,) = instructions("LABEL")
        for name in ("title", "description", "version", "revision", "licenses"):
            assert f"org.opencontainers.image.{name}=" in label


class TestLock:
    @pytest.mark.parametrize(
        ("source", "lock"),
        [
            (DEPLOY / "requirements-image.txt", LOCK),
            (DEPLOY / "requirements-grpc.txt", DEPLOY / "requirements-grpc.lock"),
        ],
        ids=lambda path: path.name,
    )
    def test_pins_what_requirements_asks_for(self, source: Path, lock: Path) -> None:
        locked = pins(lock)
        for name, version in pins(source).items():
            assert locked.get(name) == version, f"{name}: run deploy/lock.sh"

    def test_grpc_is_the_only_difference_of_its_lock(self) -> None:
        plain, grpc = pins(LOCK), pins(DEPLOY / "requirements-grpc.lock")
        assert {name: grpc.get(name) for name in plain} == plain
        assert grpc.keys() - plain.keys() == {"grpcio", "opentelemetry-exporter-otlp-proto-grpc"}

    @pytest.mark.parametrize("path", sorted(DEPLOY.glob("*.lock")), ids=lambda path: path.name)
    def test_every_requirement_has_hashes_and_no_address(self, path: Path) -> None:
        text = path.read_text()
        for block in re.split(r"\n(?=\w)", text.split("\n\n")[-1]):
            if "==" in block:
                assert "--hash=sha256:" in block, block
        assert "://" not in text


class TestCompose:
    text = (DEPLOY / "compose.yaml").read_text()
    compose = yaml.safe_load(text)
    services = compose["services"]

    def test_publishes_the_ports_that_its_head_names(self) -> None:
        published = {
            port.split(":")[0]
            for service in self.services.values()
            for port in service.get("ports", [])
        }
        assert published == set(re.findall(r"http://localhost:(\d+)", self.text))

    def test_runs_the_versions_of_the_cluster(self) -> None:
        in_cluster = {
            container["image"]
            for folder in KUSTOMIZATIONS
            for _, template in pod_templates(render(folder))
            for container in containers(template)
        }
        for name, service in self.services.items():
            if name != "jaeger":  # the cluster has a trace backend of its own
                assert service["image"] in in_cluster, name

    def test_mounts_files_that_are_there(self) -> None:
        for service in self.services.values():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                assert source in self.compose["volumes"] or (DEPLOY / source).is_file(), source

    def test_temporary_file_systems_take_only_options_that_docker_and_podman_know(self) -> None:
        for name, service in self.services.items():
            for entry in service.get("tmpfs", []):
                options = {option.split("=")[0] for option in entry.split(":")[1].split(",")}
                assert options <= {"mode", "size"}, name

    def test_shows_every_dashboard(self) -> None:
        mounted = {
            Path(volume.split(":")[0]).name for volume in self.services["grafana"]["volumes"]
        }
        there = {path.name for path in (DEPLOY / "k8s/monitoring/dashboards").glob("*.json")}
        assert there <= mounted


@pytest.mark.parametrize("folder", ["overlays/development", "overlays/production", "compose"])
def test_only_variables_that_the_service_knows_are_set(folder: str) -> None:
    if folder == "compose":
        variables = set(TestCompose.services["portfolio-service"]["environment"])
    else:
        config = next(m for m in render(folder) if m["kind"] == "ConfigMap")
        (template,) = (template for _, template in pod_templates(render(folder)))
        variables = set(config["data"]) | {v["name"] for v in containers(template)[0]["env"]}
    known = {declared.metadata["variable"] for declared in settings_fields()}
    # Read elsewhere: the profile, the resource attributes, OpenTelemetry's own, and Python's.
    known |= {"PORTFOLIO_SERVICE_ENV", "TMPDIR"}
    known |= {"MY_POD_NAME", "MY_POD_IP", "MY_NODE_NAME", "MY_NAMESPACE"}
    unknown = {name for name in variables if name not in known and not name.startswith("OTEL_")}
    assert not unknown
