"""The configuration of Gunicorn: ``gunicorn``, run in this folder, starts the service."""

# First: it patches the standard library for all that follows.
from portfolio.server.patches import freeze, lazy_unicode_patterns

with lazy_unicode_patterns():
    import marshmallow.validate  # noqa: F401

import os
from logging.config import dictConfig

# Needed at the first connection; imported here, their memory is shared.
import gevent.resolver.thread
import gevent.threadpool  # noqa: F401
from gunicorn.glogging import Logger

from portfolio.config import server_settings
from portfolio.observability.logging import logging_config

_settings = server_settings()


class _Logger(Logger):
    """Gunicorn's log in the service's format, without requests, which the service logs."""

    def setup(self, cfg):
        dictConfig(logging_config(_settings))

    def access(self, resp, req, environ, request_time):
        pass


logger_class = _Logger
wsgi_app = "wsgi:app"
bind = f"0.0.0.0:{_settings.port}"
workers = _settings.web_concurrency
worker_class = "portfolio.server.worker.Worker"

# Import the code once and share its memory. What does not survive a fork (the MongoDB client,
# exporters, locks) is created in post_worker_init.
preload_app = True

# Longer than the 60 s for which clients and proxies commonly keep idle connections. With Gunicorn's
# default of 2 s, connections are closed just as clients send.
keepalive = 75

# With this many open, each new connection closes the one that has been idle longest.
worker_connections = 1000
# DRAIN_SECONDS is at most 20; the rest is for requests in flight. With 2 s for the last export, the
# end comes within the 25 s that a pod's grace period leaves after its preStop hook.
graceful_timeout = 22
timeout = 60

# In shared memory if possible: heartbeats must not wait for a disk. Given explicitly, since
# Python would look for a folder by writing to it, which fails on a full disk.
_folders = ("/dev/shm", "/tmp", os.getcwd())
worker_tmp_dir = next(filter(lambda folder: os.access(folder, os.W_OK | os.X_OK), _folders), None)

# Longer lines and more headers are rejected while they are read.
limit_request_line = 4094
limit_request_fields = 64
limit_request_field_size = 8190

# No response depends on the scheme or on forwarded headers: ignore them, and do not check for each
# request whether its peer may set them.
forwarded_allow_ips = "*"
secure_scheme_headers = {}
forwarder_headers = ""

# Operators use the probes and the `flask` commands.
control_socket_disable = True


def when_ready(server):
    """Freeze the loaded objects before workers are forked."""
    freeze()


on_reload = when_ready


def post_worker_init(worker):
    """Open connections and start background threads; neither would survive the fork."""
    worker.wsgi.extensions["portfolio"].start()


def worker_exit(server, worker):
    """Stop background threads and close connections."""
    if hasattr(worker, "wsgi"):
        worker.wsgi.extensions["portfolio"].stop()
