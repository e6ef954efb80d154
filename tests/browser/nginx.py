"""A real nginx in front of the service, for tests of what a reverse proxy changes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import requests

from portfolio.devserver.processes import free_port
from tests.support.gunicorn import wait_until

# The prefix is the one of the documentation. Under the other ones, nginx itself answers for the
# health endpoints, as one does that asks for a login or forwards some paths alone.
_CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/client-body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location /portfolio/ {{ proxy_pass {upstream}/; }}
    {refusals}
  }}
}}
"""
_REFUSAL = """
    location /{name}/ {{ proxy_pass {upstream}/; }}
    location /{name}/health/ {{ default_type text/html; return {answer}; }}
"""
REFUSALS = {
    "unauthorized": "401",
    "not-found": "404",
    "bad-gateway": "502",
    "unavailable": "503",
    "login-page": '200 "<h1>Log in</h1>"',
}


def find_nginx() -> str | None:
    """Return the path of nginx, which Debian keeps where only root's PATH leads; None without."""
    return shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")


class Nginx:
    """A running nginx.

    Args:
        binary: the program.
        folder: an empty folder for its files.
        upstream: the URL of the service, without a slash at the end.
    """

    def __init__(self, binary: str, folder: Path, upstream: str) -> None:
        folder.mkdir()
        self._port = free_port()
        self.root = f"http://127.0.0.1:{self._port}"
        refusals = "".join(
            _REFUSAL.format(name=name, answer=answer, upstream=upstream)
            for name, answer in REFUSALS.items()
        )
        configuration = folder / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                folder=folder, port=self._port, upstream=upstream, refusals=refusals
            )
        )
        self._log = folder / "error.log"
        self._process = subprocess.Popen(
            [binary, "-e", self._log, "-p", folder, "-c", configuration],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @property
    def url(self) -> str:
        """The URL of the service behind the prefix, without a slash at the end."""
        return f"{self.root}/portfolio"

    def wait_ready(self) -> None:
        """Wait until it answers."""
        wait_until(self._answers, "nginx answers")

    def stop(self) -> None:
        """End it and its worker."""
        self._process.terminate()
        self._process.wait(timeout=10)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            return requests.get(f"{self.url}/health/live", timeout=10).ok
        except requests.ConnectionError:
            return False
