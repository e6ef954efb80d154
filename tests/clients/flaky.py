"""The service behind a network that fails in every way that a client should survive."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import requests

_UNAVAILABLE = b'{"detail": "Database unavailable", "code": "service_unavailable"}'


class FlakyService:
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
        flaky = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                flaky._answer(self)

            do_GET = do_POST = do_PUT = answer  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        with self._lock:
            before = self.statuses.setdefault(handler.command, [])
            turn = (handler.command, len(before) + 1)
            if turn == ("PUT", 1):
                self._update(handler.path)
            if turn == ("POST", 2):
                status, headers, content = 503, {"Retry-After": "1"}, _UNAVAILABLE
            else:
                status, headers, content = self._forward(handler, body)
            before.append(0 if turn == ("POST", 1) else status)
        if turn == ("POST", 1):
            handler.close_connection = True
            return
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    def _forward(
        self, handler: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        kept = ("Content-Type", "Idempotency-Key")
        headers = {name: handler.headers[name] for name in kept if handler.headers[name]}
        response = requests.request(
            handler.command, self._target + handler.path, data=body, headers=headers, timeout=30
        )
        passed = ("Content-Type", "ETag", "Link", "Retry-After")
        headers = {name: response.headers[name] for name in passed if name in response.headers}
        return response.status_code, headers, response.content

    def _update(self, path: str) -> None:
        found = requests.get(self._target + path, timeout=30).json()
        changed = requests.put(self._target + path, json=found, timeout=30)
        assert changed.status_code == 200, changed.text
