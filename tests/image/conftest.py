"""The image, built once, and the service in a container of it."""

from __future__ import annotations

import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from portfolio.devserver.mongod import Mongod
from portfolio.devserver.processes import free_port
from tests.support import tables
from tests.support.collector import Collector
from tests.support.gunicorn import ROOT

from . import engine

K8S = ROOT / "deploy" / "k8s"

BASE = "localhost/python-of-debian:test"
IMAGE = "localhost/globeco-portfolio-service:test"

_ROWS = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    tables.add_option(parser, "image")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = {}


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash[_ROWS].items()
    tables.show(terminalreporter, "image", ("what", "measured"), rows)


@pytest.fixture(scope="session")
def record(pytestconfig: pytest.Config) -> Callable[[str, str], None]:
    """Put a row into the table."""
    return pytestconfig.stash[_ROWS].__setitem__


@pytest.fixture(scope="session")
def builder(record: Callable[[str, str], None]) -> Iterator[engine.Builder]:
    """A storage that holds BASE and IMAGE."""
    if reason := engine.missing():
        pytest.skip(reason)
    # Short: the paths of sockets below it are bounded.
    builder = engine.Builder(Path(tempfile.mkdtemp(prefix="image-")))
    try:
        builder.make_base(BASE)
        seconds = builder.build(ROOT, IMAGE, {"PYTHON_IMAGE": BASE, "REVISION": "test"})
        record("build, compiler and requirements fetched", f"{seconds:.0f} s")
        yield builder
    finally:
        builder.close()


@pytest.fixture(scope="session")
def files(builder: engine.Builder) -> Path:
    """The files of the image."""
    return builder.mount(IMAGE)


@pytest.fixture(scope="session")
def config(builder: engine.Builder) -> dict[str, Any]:
    """The configuration of the image."""
    return builder.inspect(IMAGE)


@pytest.fixture(scope="session")
def collector() -> Iterator[str]:
    """The URL of a collector."""
    collector = Collector()
    yield f"http://{collector.start_http()}"
    collector.stop()


def cluster_environment() -> dict[str, str]:
    """What the ConfigMap of production holds."""
    variables: dict[str, str] = {}
    for folder in ("base", "overlays/production"):
        manifest = yaml.safe_load((K8S / folder / "kustomization.yaml").read_text())
        for generator in manifest["configMapGenerator"]:
            variables |= dict(literal.split("=", 1) for literal in generator["literals"])
    return variables


Start = Callable[..., engine.Container]


@pytest.fixture(scope="module")
def start(
    files: Path,
    config: dict[str, Any],
    replica_set: Mongod,
    collector: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Start]:
    """Start the image as production does, but for the address of MongoDB and of the collector."""
    started: list[engine.Container] = []

    def start(**environment: str) -> engine.Container:
        folder = tmp_path_factory.mktemp("container") / f"c{len(started)}-{free_port()}"
        variables = cluster_environment() | {
            "PORT": str(free_port()),
            "MONGODB_URI": replica_set.uri,
            "MONGODB_DB": "image",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        }
        container = engine.Container(folder, files, config, variables | environment)
        started.append(container)
        container.start()
        return container

    yield start
    for container in started:
        container.stop()


def status(url: str) -> int:
    """Return the status of an answer; 0 where there is none."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def wait_ready(container: engine.Container) -> float:
    """Return the seconds from now until it is ready."""
    started = time.monotonic()
    while status(f"{container.url}/health/ready") != 200:
        assert container.process is not None
        assert container.process.poll() is None, container.log.read_text()
        assert time.monotonic() - started < engine.START_TIMEOUT_S, container.log.read_text()
        time.sleep(0.01)
    return time.monotonic() - started


@pytest.fixture(scope="module")
def service(start: Start) -> engine.Container:
    """The service, ready."""
    container = start()
    wait_ready(container)
    return container
