"""How Gunicorn serves the raw baseline: the settings of the service that concern speed."""

# First, as in the service's own configuration.
from portfolio.server.patches import freeze

# isort: split

import os
from typing import Any

import gevent

wsgi_app = "benchmarks.baselines.raw:app"
bind = f"127.0.0.1:{os.environ['PORT']}"
workers = int(os.environ["WEB_CONCURRENCY"])
worker_class = "gevent"
preload_app = True
keepalive = 75
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None
control_socket_disable = True
forwarded_allow_ips = "*"
secure_scheme_headers: dict[str, str] = {}
forwarder_headers = ""


def when_ready(server: Any) -> None:
    """Hand over to workers, as in the service."""
    freeze()


def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
    """Let other connections have their turn, as in the service."""
    gevent.sleep(1e-6)
