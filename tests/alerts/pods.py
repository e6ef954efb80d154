"""Pods without a cluster: the real Gunicorn, probed as the kubelet does, under load."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import requests

from tests.support.gunicorn import Gunicorn

_CLIENTS = 8
_READY_EVERY_S = 5.0
# More often than the kubelet: load balancers and people poll liveness as well.
_LIVE_EVERY_S = 3.0
_PROBE_TIMEOUT_S = 2.0
# Clients wait as they are told, so far.
_LONGEST_WAIT_S = 10.0
# Longer than the service's own deadline.
_REQUEST_TIMEOUT_S = 10.0


class Pod:
    """One pod: one worker, its probes, and clients that ask it for something of everything.

    Args:
        name: of the pod.
        environment: the profile that it runs in.
        folder: for its files.
        mongodb_uri: its MongoDB.
        otlp: the address of the collector.
        export_interval_s: seconds between exports.
    """

    def __init__(
        self,
        name: str,
        environment: str,
        folder: Path,
        mongodb_uri: str,
        otlp: str,
        export_interval_s: int,
    ) -> None:
        self.environment = environment
        self.pause_s = 4.0
        self._gunicorn = Gunicorn(
            folder / name,
            mongodb_uri,
            {
                "DRAIN_SECONDS": "1",
                "MONGODB_DB": f"alerts-{environment}",
                "MY_NAMESPACE": "globeco",
                "MY_NODE_NAME": "node-1",
                "MY_POD_NAME": name,
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{otlp}",
                "OTEL_METRICS_EXPORT_INTERVAL_SECONDS": str(export_interval_s),
                "OTEL_SDK_DISABLED": "false",
                "PORTFOLIO_SERVICE_ENV": environment,
                "WEB_CONCURRENCY": "1",
            },
        )
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start it, and its probes and clients once it is ready."""
        self._gunicorn.start()
        self._gunicorn.wait_ready()
        self._run(lambda: self._probe("/health/ready"), lambda: _READY_EVERY_S)
        self._run(lambda: self._probe("/health/live"), lambda: _LIVE_EVERY_S)
        for number in range(_CLIENTS):
            client = _Client(self._gunicorn.url, number)
            self._run(client.step, lambda c=client: max(self.pause_s, c.told_to_wait_s))

    def stop(self) -> None:
        """End clients, probes and the service."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(_REQUEST_TIMEOUT_S + 1)
        self._gunicorn.kill()

    def _run(self, step: Callable[[], None], pause_s: Callable[[], float]) -> None:
        def loop() -> None:
            while not self._stopped.is_set():
                step()
                self._stopped.wait(pause_s())

        thread = threading.Thread(target=loop, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _probe(self, path: str) -> None:
        with suppress(requests.RequestException):
            requests.get(self._gunicorn.url + path, timeout=_PROBE_TIMEOUT_S)


class _Client:
    """Sends one request after the other: reads and writes, one and many, by every API."""

    def __init__(self, url: str, number: int) -> None:
        self._url = url
        self._session = requests.Session()
        self._identity = "unknown"
        self._turn = number
        self.told_to_wait_s = 0.0

    def step(self) -> None:
        """Send the next request."""
        self._turn += 1
        with suppress(requests.RequestException):
            response = self._send(self._turn % 8)
            told = float(response.headers.get("Retry-After", 0))
            self.told_to_wait_s = min(told, _LONGEST_WAIT_S)
            if response.status_code == 201 and response.url.endswith("/v1/portfolios"):
                self._identity = response.json()["portfolioId"]

    def _send(self, turn: int) -> requests.Response:
        many = [{"name": f"Alerts {uuid.uuid4().hex}"} for _ in range(2)]
        if turn == 0:
            return self._post("/api/v1/portfolios", many[0])
        if turn == 1:
            return self._post("/api/v2/portfolios", many)
        if turn == 2:
            return self._post("/api/fast/portfolios/bulk", many)
        if turn == 3:
            path = "/api/v2/portfolios?name=Alerts&limit=5"
            return self._session.get(self._url + path, timeout=_REQUEST_TIMEOUT_S)
        path = f"/api/v1/portfolio/{self._identity}"
        return self._session.get(self._url + path, timeout=_REQUEST_TIMEOUT_S)

    def _post(self, path: str, body: object) -> requests.Response:
        return self._session.post(self._url + path, json=body, timeout=_REQUEST_TIMEOUT_S)
