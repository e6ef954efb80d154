"""An OpenTelemetry collector that takes everything and keeps nothing: exports cost what they do.

``python -m benchmarks.collector PORT [fails|resets|hangs]``, with a fault where one is named; a
process of its own, since exports must not wait for a load program.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from portfolio.devserver.processes import free_port

FAULTS = ("fails", "resets", "hangs")
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@contextlib.contextmanager
def collector(*fault: str) -> Iterator[str]:
    """Run one, with one of ``FAULTS`` or none, and yield its URL."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.collector", str(port), *fault])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


class _Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fault = ""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.fault == "resets":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.connection.close()
            self.close_connection = True
            return
        if self.fault == "hangs":
            self.rfile.read(1)  # ends with the connection
            return
        self.send_response(500 if self.fault == "fails" else 200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client may give up."""


def main(port: str, fault: str = "") -> None:
    """Serve until terminated."""
    _Sink.fault = fault
    _Server(("127.0.0.1", int(port)), _Sink).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
