"""How Gunicorn serves: ``gunicorn`` alone, in this folder, starts the service."""

# Before anything that opens sockets, makes locks or imports ssl: what was imported earlier would
# keep blocking calls, and with preload_app the master imports the application too.
from gevent import events, monkey

# gevent tells installed plugins of each thing that it patches, and reads the metadata of every
# package to find them: a third of the CPU that it takes to start. There are none here.
events.notify_and_call_entry_points = events.notify
monkey.patch_all()

import gc

# Imports make hundreds of thousands of objects and no garbage; when_ready switches it on again.
gc.disable()

import os
import re
import threading
from logging.config import dictConfig


class _Later:
    """A pattern that is compiled when it is first used."""

    def __init__(self, *pattern):
        self._pattern = pattern

    def match(self, text):
        return _compile(*self._pattern).match(text)


# Marshmallow compiles a pattern of all e-mail addresses, with every letter of Unicode, while it is
# imported: a fifteenth of the CPU that it takes to start, and no portfolio has an address.
_compile = re.compile
re.compile = lambda *pattern: (_Later if "\uffff" in str(pattern[0]) else _compile)(*pattern)
import marshmallow.validate  # noqa: F401

re.compile = _compile

# What a worker needs when it first connects; loaded here, it is loaded once.
import gevent.resolver.thread
import gevent.threadpool  # noqa: F401
from gunicorn.glogging import Logger

from portfolio.config import Settings
from portfolio.fairness import give_way
from portfolio.telemetry.logging import logging_config

_settings = Settings.from_environment()


# A condition asks whether its lock is held by trying to take it, and gevent yields to all others
# when that fails: PyMongo's pool does it twice a command, while it holds its lock. To look instead
# saves a fourteenth of the time of a command (benchmarks/layers.py).
threading.Condition._is_owned = lambda condition: condition._lock.locked()


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
worker_class = "portfolio.http.worker.Worker"  # gevent's, that drains

# The code is imported once and its memory shared by all workers. What does not survive a fork (the
# MongoDB client, exporters, locks) is made in post_worker_init.
preload_app = True

# Gunicorn's default of 2 s closes an idle connection just as its client sends: 5 resets in 1,200
# requests at 150/s. This outlasts the 60 s that clients and proxies commonly keep theirs.
keepalive = 75

# Most that one worker holds open; far above what it works on at once.
worker_connections = 1000
# DRAIN_SECONDS, at most 20, and a little for what is under way; a pod's grace period outlasts both.
graceful_timeout = 25
timeout = 60

# A shared-memory file, where there is one: a worker's heartbeat must not wait for a disk.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None

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
    """Move what is loaded out of the garbage collector's sight, so that workers share it longer."""
    gc.freeze()
    gc.enable()


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

    A client on keep-alive has its next request ready before the greenlet would wait, so that it
    never yields: with 16 connections on 2 workers one got 29,698 requests while eleven got 1 to
    38. To yield with ``sleep(0)`` gave all of them 3,086 to 4,522, for 5% of throughput.

    A moment instead of 0 (``give_way``): p99 of GET one fell from 36 to 15 ms and of pages from 76
    to 17, and reads became 8 to 14% faster, creations 6% slower.
    """
    give_way()
