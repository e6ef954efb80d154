"""How Gunicorn serves: ``gunicorn`` alone, in this folder, starts the service."""

# First: it patches what all others import.
from portfolio.server.patches import freeze, lazy_unicode_patterns

with lazy_unicode_patterns():
    import marshmallow.validate  # noqa: F401

import os
from logging.config import dictConfig

# What a worker needs when it first connects; loaded here, it is loaded once.
import gevent.resolver.thread
import gevent.threadpool  # noqa: F401
from gunicorn.glogging import Logger

from portfolio.config import server_settings
from portfolio.observability.logging import logging_config
from portfolio.scheduling import yield_to_hub

_settings = server_settings()


class _Logger(Logger):
    """Gunicorn's own lines, in the service's format; requests are logged by the service."""

    def setup(self, cfg):
        dictConfig(logging_config(_settings))

    def access(self, resp, req, environ, request_time):
        pass


logger_class = _Logger
wsgi_app = "wsgi:app"
bind = f"0.0.0.0:{_settings.port}"
workers = _settings.web_concurrency
worker_class = "portfolio.server.worker.Worker"  # gevent's, that drains

# The code is imported once and its memory shared by all workers. What does not survive a fork (the
# MongoDB client, exporters, locks) is made in post_worker_init.
preload_app = True

# Gunicorn's default of 2 s closes an idle connection just as its client sends: 5 resets in 1,200
# requests at 150/s. This outlasts the 60 s that clients and proxies commonly keep theirs.
keepalive = 75

# At so many open ones each new connection ends the one that has been idle longest; far above what a
# worker works on at once.
worker_connections = 1000
# DRAIN_SECONDS, at most 20, and a little for what is in flight. With 2 s for the last export this
# ends within the 25 s that a pod's grace period leaves behind its preStop.
graceful_timeout = 22
timeout = 60

# A shared-memory file, where there can be one: a worker's heartbeat must not wait for a disk. It is
# named, since Python finds a folder by writing to it, which a full disk refuses.
_folders = ("/dev/shm", "/tmp", os.getcwd())
worker_tmp_dir = next(filter(lambda folder: os.access(folder, os.W_OK | os.X_OK), _folders), None)

# Gunicorn's own limits: longer lines and more headers are refused while they are read.
limit_request_line = 4094
limit_request_fields = 64
limit_request_field_size = 8190

# No answer depends on the scheme or on a forwarded header, so none is taken from anybody, and
# Gunicorn need not look up for each request whether its peer may set them.
forwarded_allow_ips = "*"
secure_scheme_headers = {}
forwarder_headers = ""

# No operator interface of its own: probes and `flask` commands are the service's.
control_socket_disable = True


def when_ready(server):
    """Hand over to workers, now that everything is loaded."""
    freeze()


on_reload = when_ready


def post_worker_init(worker):
    """Open connections and start background work, in the worker: neither survives a fork."""
    worker.wsgi.extensions["portfolio"].start()


def worker_exit(server, worker):
    """Close connections, so that MongoDB need not find out."""
    if hasattr(worker, "wsgi"):
        worker.wsgi.extensions["portfolio"].stop()


def post_request(worker, req, environ, resp):
    """Let other connections have their turn.

    A client on keep-alive has its next request ready before the greenlet would wait, so without
    this the greenlet would never yield and a few clients would get nearly all of the worker.
    """
    yield_to_hub()
