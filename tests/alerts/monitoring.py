"""Real Prometheus and Alertmanager processes, with the configuration of deploy/k8s/monitoring.

What is swapped: the addresses of targets and of Alertmanager, the folders, and the mail of each
receiver for a webhook on the loopback interface. Rules, intervals, routes, groups and whether a
receiver hears of the end of an alert are as they are deployed.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import requests
import yaml

from portfolio.devserver.processes import free_port
from tests.support.gunicorn import ROOT, wait_until
from tests.support.http_server import HTTPServer, Reply, Request

MONITORING = ROOT / "deploy" / "k8s" / "monitoring"
_STOP_TIMEOUT_S = 10


class Server:
    """A program of the monitoring, as its StatefulSet starts it but for paths and ports.

    Args:
        program: its name on PATH.
        manifest: the manifest that holds its arguments.
        paths: of the arguments, by what they are in the container.
        folder: for its log.
    """

    def __init__(self, program: str, manifest: Path, paths: dict[str, Path], folder: Path) -> None:
        self._program = program
        self._paths = paths
        stateful_set = next(yaml.safe_load_all(manifest.read_text()))
        (container,) = stateful_set["spec"]["template"]["spec"]["containers"]
        self._arguments: list[str] = container["args"]
        self._log = folder / f"{program}.log"
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.address}"

    def start(self) -> None:
        """Start it and wait until it is ready."""
        command = [shutil.which(self._program) or self._program]
        for argument in self._arguments:
            name, _, value = argument.partition("=")
            command.append(f"{name}={self._paths.get(value, value)}")
        command.append(f"--web.listen-address={self.address}")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=os.environ
            )
        wait_until(self._ready, f"{self._program} is ready; its log: {self._log}")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()[-2000:]
        try:
            return requests.get(f"{self.url}/-/ready", timeout=5).ok
        except requests.RequestException:
            return False


class Prometheus(Server):
    """Prometheus with the project's rules.

    Args:
        folder: for its files.
        targets: addresses by those of the deployed configuration.
        alertmanager: the address of Alertmanager.
    """

    def __init__(self, folder: Path, targets: dict[str, str], alertmanager: str) -> None:
        rules = MONITORING / "rules"
        config = yaml.safe_load((rules / "prometheus.yml").read_text())
        config["rule_files"] = [str(rules / "*.rules.yaml")]
        (pushed_to,) = config["alerting"]["alertmanagers"]
        pushed_to["static_configs"] = [{"targets": [alertmanager]}]
        for job in config["scrape_configs"]:
            for static in job["static_configs"]:
                static["targets"] = [targets[target] for target in static["targets"]]
        written = folder / "prometheus.yml"
        written.write_text(yaml.safe_dump(config))
        paths = {
            "/etc/prometheus/prometheus.yml": written,
            "/prometheus": folder / "prometheus",
        }
        super().__init__("prometheus", rules / "statefulset.yaml", paths, folder)

    def query(self, expression: str) -> list[float]:
        """Return the values that an expression has now, those that are no number left out."""
        answer = requests.get(f"{self.url}/api/v1/query", {"query": expression}, timeout=10)
        found = answer.json()
        assert found["status"] == "success", found
        values = [float(sample["value"][1]) for sample in found["data"]["result"]]
        return [value for value in values if not math.isnan(value)]

    def critical_alerts(self) -> set[tuple[str, str, str]]:
        """Return environment, name and state of what is critical and pending or firing."""
        found = requests.get(f"{self.url}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        return {
            (alert["labels"].get("environment", ""), alert["labels"]["alertname"], alert["state"])
            for alert in found
            if alert["labels"]["severity"] == "critical"
        }


class Alertmanager(Server):
    """Alertmanager with the project's routes.

    Args:
        folder: for its files.
        inbox: hears what the receivers would.
    """

    def __init__(self, folder: Path, inbox: Inbox) -> None:
        alerting = MONITORING / "alerting"
        config = yaml.safe_load((alerting / "alertmanager.yml").read_text())
        config["global"] = {}
        for receiver in config["receivers"]:
            (mail,) = receiver.pop("email_configs")
            receiver["webhook_configs"] = [
                {
                    "url": f"{inbox.url}/{receiver['name']}",
                    # Mail is silent about the end of an alert unless it is told otherwise.
                    "send_resolved": mail.get("send_resolved", False),
                }
            ]
        written = folder / "alertmanager.yml"
        written.write_text(yaml.safe_dump(config))
        paths = {
            "/etc/alertmanager/alertmanager.yml": written,
            "/alertmanager": folder / "alertmanager",
        }
        super().__init__("prometheus-alertmanager", alerting / "statefulset.yaml", paths, folder)


class Notification(NamedTuple):
    """One alert of one message to a receiver.

    Attributes:
        at: when it came, by the monotonic clock.
        receiver: who was told.
        status: ``firing`` or ``resolved``.
        labels: the alert's; its name without the service's is ``name``.
    """

    at: float
    receiver: str
    status: str
    labels: dict[str, str]

    @property
    def name(self) -> str:
        """The alert's name, without the service's."""
        return self.labels["alertname"].removeprefix("PortfolioService")


class Inbox:
    """Takes what Alertmanager sends to the receivers."""

    def __init__(self) -> None:
        self.received: list[Notification] = []
        self._server = HTTPServer(self._take)
        self.url = self._server.url
        self.stop = self._server.stop

    def _take(self, request: Request) -> Reply:
        now, receiver = time.monotonic(), request.path.strip("/")
        self.received += [
            Notification(now, receiver, alert["status"], alert["labels"])
            for alert in json.loads(request.body)["alerts"]
        ]
        return Reply()

    def first(self, status: str, environment: str, name: str) -> Notification | None:
        """Return the first message with this status of an alert in an environment."""
        for found in list(self.received):
            labels = found.labels
            if (found.status, labels.get("environment"), found.name) == (status, environment, name):
                return found
        return None
