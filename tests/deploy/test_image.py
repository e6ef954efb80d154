"""The image: what a machine without a container engine can prove of it.

The build stage is carried out step by step as the Dockerfile says it, in a folder instead of a
layer; then the service is started from there as the final stage starts it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from portfolio.config import settings_fields
from portfolio.devserver.processes import free_port
from tests.deploy.conftest import (
    DEPLOY,
    KUSTOMIZATIONS,
    ROOT,
    containers,
    pod_templates,
    render,
    run,
    tool,
)
from tests.support.requirements import pins

DOCKERFILE = ROOT / "Dockerfile"
LOCK = DEPLOY / "requirements.lock"
WORKDIR = "/opt/portfolio"
USER = 10001


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) of the Dockerfile, continued lines joined and comments left out."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", " ", text)
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line]


def stages() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The instructions of the build stage and those of the final stage."""
    steps = instructions()
    starts = [index for index, (word, _) in enumerate(steps) if word == "FROM"]
    assert len(starts) == 2
    return steps[starts[0] : starts[1]], steps[starts[1] :]


def environment() -> dict[str, str]:
    """What the final stage sets."""
    found: dict[str, str] = {}
    for word, rest in stages()[1]:
        if word == "ENV":
            found |= dict(pair.split("=", 1) for pair in shlex.split(rest))
    return found


def ignored(path: Path) -> bool:
    """Whether .dockerignore keeps a path of the repository out of the build."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if not line.startswith("#") and any(
            matches(each, pattern) for each in (path, *path.parents)
        ):
            verdict = not line.startswith("!")  # the last line that matches decides
    return verdict


def matches(path: Path, pattern: str) -> bool:
    """Whether a pattern of .dockerignore names this very path."""
    if pattern.startswith("**/"):
        return path.name == pattern.removeprefix("**/")
    return fnmatch(str(path), pattern)


class TestDockerfile:
    def test_hadolint_has_nothing_to_say(self) -> None:
        done = run([tool("hadolint"), str(DOCKERFILE)])
        assert done.returncode == 0, done.stdout

    def test_final_stage_runs_as_a_number_that_is_not_root(self) -> None:
        users = [rest for word, rest in stages()[1] if word == "USER"]
        assert users == [f"{USER}:{USER}"]

    def test_final_stage_installs_nothing(self) -> None:
        for word, rest in stages()[1]:
            assert not (
                word == "RUN" and re.search(r"\b(install -[^d]|apt|apt-get|curl)\b", rest)
            ), rest

    def test_both_stages_stand_on_the_same_slim_python(self) -> None:
        (image,) = (rest for word, rest in instructions() if "PYTHON_IMAGE=" in rest)
        version = re.fullmatch(r"PYTHON_IMAGE=python:3\.(\d+)\.\d+-slim-\w+", image)
        assert version, "a tag that does not move"
        tested = re.findall(r"py3(\d+)", (ROOT / "tox.ini").read_text())
        assert version[1] == max(tested, key=int), "the newest Python that is tested"
        assert [rest.split()[0] for word, rest in instructions() if word == "FROM"] == [
            "${PYTHON_IMAGE}",
            "${PYTHON_IMAGE}",
        ]

    def test_labels_tell_what_it_is_and_where_it_comes_from(self) -> None:
        (label,) = (rest for word, rest in stages()[1] if word == "LABEL")
        for name in ("title", "description", "version", "revision", "licenses"):
            assert f"org.opencontainers.image.{name}=" in label

    def test_context_holds_what_is_copied_and_no_more(self) -> None:
        for wanted in (
            "wsgi.py",
            "gunicorn.conf.py",
            "portfolio/config.py",
            "deploy/requirements.lock",
        ):
            assert not ignored(Path(wanted)), wanted
        for unwanted in (
            ".git/HEAD",
            "tests/conftest.py",
            "tox.ini",
            ".data/x",
            "portfolio/devserver/mongod.py",
            "portfolio/__pycache__/x.pyc",
        ):
            assert ignored(Path(unwanted)), unwanted


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


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the build stage makes."""
    folder = tmp_path_factory.mktemp("image") / "portfolio"
    folder.mkdir()
    variables = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for word, rest in stages()[0]:
        if word == "ARG":
            variables |= dict([rest.split("=", 1)])
        elif word == "COPY":
            *sources, target = rest.split()
            for source in (path for pattern in sources for path in ROOT.glob(pattern)):
                copy(source, folder / target)
        elif rest.startswith("apt-get "):
            tool("gcc")  # what it installs must be here already
        elif word == "RUN":
            done = subprocess.run(
                rest,
                shell=True,
                cwd=folder,
                env=variables,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"RUN {rest}\n{done.stdout}{done.stderr}"
    return folder


def copy(source: Path, target: Path) -> None:
    """What COPY does, .dockerignore kept."""
    if source.is_dir():
        for path in source.rglob("*"):
            if path.is_file() and not ignored(path.relative_to(ROOT)):
                copy(path, target / path.relative_to(source))
        return
    if target.is_dir():
        target /= source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


# Starts "$@" as the cluster does: no file system to write to but the folder $0 (and the memory
# under /dev), no capability, no way to gain one.
SANDBOX = """
    mount --bind "$0" "$0" && mount -o remount,bind,ro / &&
    exec setpriv --no-new-privs --inh-caps -all --bounding-set -all "$@"
"""


@pytest.fixture
def service(image: Path, tmp_path: Path) -> Iterator[str]:
    """The URL of the service, started as the final stage starts it, without a MongoDB."""
    if os.getuid() != 0 or run([tool("unshare"), "--mount", "true"]).returncode != 0:
        pytest.skip("a read-only file system needs root and mount namespaces")
    runtime = tmp_path / "run"
    runtime.mkdir()
    port = free_port()
    variables = {
        name: value.replace("/run/portfolio", str(runtime)).replace(WORKDIR, str(image))
        for name, value in environment().items()
    }
    variables["PATH"] = variables["PATH"].replace("$PATH", os.environ["PATH"])
    variables |= {"PORT": str(port), "MONGODB_URI": "mongodb://127.0.0.1:9"}
    (command,) = (yaml.safe_load(rest) for word, rest in stages()[1] if word == "CMD")
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", SANDBOX, str(runtime), *command],
            cwd=image,
            env=variables,
            stdout=log,
            stderr=log,
        )
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while not answers(f"{url}/health/live"):
            written = (tmp_path / "log").read_text()
            assert process.poll() is None, written
            assert time.monotonic() < deadline, written
            time.sleep(0.1)
        yield url
        process.terminate()
        assert process.wait(30) == 0


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.mark.slow  # builds what the image holds, for a minute or two: tox -e deploy
class TestImage:
    def test_final_environment_has_no_pip_and_no_development_package(self, image: Path) -> None:
        (packages,) = image.glob("venv/lib/python*/site-packages")
        installed = {path.name.split("-")[0].lower() for path in packages.glob("*.dist-info")}
        assert {"flask", "gunicorn", "pymongo"} <= installed
        assert not installed & {"pip", "setuptools", "wheel", "pytest", "mypy", "ruff", "mongomock"}
        assert not list(packages.glob("fiftyone*"))
        assert not list(packages.glob("grpc*")), "19 MB that few use"

    def test_code_is_compiled_beforehand(self, image: Path) -> None:
        for source in [*image.glob("*.py"), *(image / "portfolio").rglob("*.py")]:
            name = f"{source.name.removesuffix('.py')}.cpython-*.pyc"
            assert list((source.parent / "__pycache__").glob(name)), source

    def test_holds_nothing_but_the_service(self, image: Path) -> None:
        assert {path.name for path in image.iterdir()} == {
            "__pycache__",
            "gunicorn.conf.py",
            "portfolio",
            "venv",
            "wsgi.py",
        }

    def test_serves_on_a_read_only_file_system(self, service: str) -> None:
        assert answers(f"{service}/health/live")

    def test_health_check_passes(self, service: str, image: Path) -> None:
        (check,) = (rest for word, rest in stages()[1] if word == "HEALTHCHECK")
        command = yaml.safe_load(check.split("CMD ", 1)[1])
        port = service.rsplit(":", 1)[1]
        command[0] = str(image / "venv/bin" / command[0])
        assert run(command, env={"PORT": port}).returncode == 0
        assert run(command, env={"PORT": str(free_port())}).returncode != 0


class TestCompose:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]

    def test_brings_up_the_service_and_all_around_it(self) -> None:
        assert set(self.services) == {
            "portfolio-service",
            "mongodb",
            "otel-collector",
            "jaeger",
            "prometheus",
            "grafana",
        }

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
