"""The service behind a network that fails in every way that a client should survive."""

from __future__ import annotations

import threading

import requests

from tests.support.http_server import HTTPServer, Reply, Request

_UNAVAILABLE = b'{"detail": "Database unavailable", "code": "service_unavailable"}'


class FlakyService(HTTPServer):
    """Forwards requests to the service at ``target``; a context manager.

    The first ``POST`` is carried out, but its response is lost. The second is answered 503. Before
    the first ``PUT`` somebody else updates the portfolio.

    Attributes:
        statuses: the response to each request by its method; 0 where it was lost.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._lock = threading.Lock()
        self.statuses: dict[str, list[int]] = {}
        super().__init__(self._answer)

    def _answer(self, request: Request) -> Reply | None:
        with self._lock:
            before = self.statuses.setdefault(request.method, [])
            turn = (request.method, len(before) + 1)
            if turn == ("PUT", 1):
                self._update(request.path)
            if turn == ("POST", 2):
                reply = Reply(503, _UNAVAILABLE, {"Retry-After": "1"})
            else:
                reply = self._forward(request)
            is_lost = turn == ("POST", 1)
            before.append(0 if is_lost else reply.status)
        return None if is_lost else reply

    def _forward(self, request: Request) -> Reply:
        kept = ("Content-Type", "Idempotency-Key")
        headers = {name: request.headers[name] for name in kept if request.headers[name]}
        response = requests.request(
            request.method,
            self._target + request.path,
            data=request.body,
            headers=headers,
            timeout=30,
        )
        passed = ("Content-Type", "ETag", "Link", "Retry-After")
        headers = {name: response.headers[name] for name in passed if name in response.headers}
        return Reply(response.status_code, response.content, headers)

    def _update(self, path: str) -> None:
        found = requests.get(self._target + path, timeout=30).json()
        changed = requests.put(self._target + path, json=found, timeout=30)
        assert changed.status_code == 200, changed.text
