"""Every private API that the service uses is the one that its comment was written for."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib.metadata import version

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.unreader import Unreader
from gunicorn.workers.ggevent import GeventWorker
from opentelemetry.exporter.http.transport._base import BaseHTTPResult, BaseHTTPTransport
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from portfolio.observability.otlp import HTTPTransport, Result
from portfolio.server.worker import freeze_settings
from tests.support.gunicorn import ROOT

MARK = re.compile(r"# PRIVATE API: ([\w-]+)==([\w.]+), \S")
MARKS = [
    pytest.param(*found, id=f"{path.relative_to(ROOT)} {found[0]}")
    for path in sorted((ROOT / "portfolio").rglob("*.py"))
    for found in MARK.findall(path.read_text())
]


def run_patched(code: str) -> None:
    """Run ``code`` in a process of its own, since patches can't be taken off."""
    code = f"from portfolio.server import patches\n{code}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)


def test_the_marks_are_found() -> None:
    assert len(MARKS) >= 5


@pytest.mark.parametrize(("package", "pinned"), MARKS)
def test_the_installed_version_is_the_one_that_was_looked_at(package: str, pinned: str) -> None:
    if package == "python":
        newest = tuple(map(int, pinned.split(".")))
        assert sys.version_info[:2] <= newest, "look at the patch again"
    else:
        assert version(package) == pinned, "look at the patch again"


def test_every_mark_has_its_form() -> None:
    for path in (ROOT / "portfolio").rglob("*.py"):
        text = path.read_text()
        assert text.count("PRIVATE API") == len(MARK.findall(text)), path


def test_gevent_looks_for_no_plugins() -> None:
    no_search = (
        "from importlib import metadata\n"
        "def search(**_): raise SystemExit('searched')\n"
        "metadata.entry_points = search\n"
    )
    for patch, code in (
        ("from gevent import monkey; monkey.patch_all()", 1),
        ("from portfolio.server import patches", 0),
    ):
        done = subprocess.run(
            [sys.executable, "-c", no_search + patch], check=False, cwd=ROOT, timeout=60
        )
        assert done.returncode == code, patch


def test_a_condition_tells_whether_its_lock_is_held_and_still_waits() -> None:
    run_patched(
        "import threading\n"
        "for condition in threading.Condition(), threading.Condition(threading.Lock()):\n"
        "    assert not condition._is_owned()\n"
        "    with condition:\n"
        "        assert condition._is_owned()\n"
        "        condition.notify_all()\n"
        "        assert not condition.wait(0.01)\n"
        "    try:\n"
        "        condition.notify()\n"
        "    except RuntimeError:\n"
        "        continue\n"
        "    raise AssertionError('notified without the lock')"
    )


def test_marshmallow_compiles_its_large_patterns_on_first_use() -> None:
    run_patched(
        "import re, types\n"
        "with patches.lazy_unicode_patterns():\n"
        "    from marshmallow import validate\n"
        "lazy = [v for v in vars(validate.Email).values() if type(v) is types.SimpleNamespace]\n"
        "assert lazy, 'no pattern is left out any more'\n"
        "assert isinstance(re.compile('x'), re.Pattern)\n"
        "assert validate.Email()('someone@example.com')\n"
        "try:\n"
        "    validate.Email()('nobody')\n"
        "except validate.ValidationError:\n"
        "    raise SystemExit\n"
        "raise AssertionError('no address, and accepted')"
    )


def test_frozen_settings_are_those_that_were_configured() -> None:
    config = Config()
    config.set("keepalive", 75)
    configured = {name: getattr(config, name) for name in config.settings}
    freeze_settings(config)
    assert config.__dict__["keepalive"] == 75
    assert {name: getattr(config, name) for name in config.settings} == configured


def test_requests_share_an_error_stream() -> None:
    run_patched(
        "from gunicorn.config import Config\n"
        "from gunicorn.http import wsgi\n"
        "from portfolio.server.worker import share_error_stream\n"
        "share_error_stream()\n"
        "config = Config()\n"
        "assert wsgi.WSGIErrorsWrapper(config) is wsgi.WSGIErrorsWrapper(config)"
    )


@pytest.mark.parametrize("exporter", [OTLPMetricExporter, OTLPSpanExporter])
def test_exporters_take_a_transport(exporter: type) -> None:
    assert "_transport" in inspect.signature(exporter).parameters
    made = exporter(_transport=HTTPTransport())
    made.shutdown()


def test_the_transport_has_what_exporters_expect() -> None:
    for ours, theirs in ((HTTPTransport, BaseHTTPTransport), (Result, BaseHTTPResult)):
        for name in theirs.__abstractmethods__ - {"content"}:
            expected = list(inspect.signature(getattr(theirs, name)).parameters)
            given = list(inspect.signature(getattr(ours, name)).parameters)
            assert len(given) == len(expected), name
    for field in ("status_code", "reason", "error"):
        assert hasattr(Result(), field)


def test_gunicorn_has_what_the_worker_uses() -> None:
    for owner, names in (
        (Unreader, ("take_buffered", "unread")),
        (wsgi.Response, ("default_headers", "write", "force_close", "should_close", "close")),
        (GeventWorker, ("run", "handle_exit", "notify")),
    ):
        for name in names:
            assert callable(getattr(owner, name)), f"{owner.__name__}.{name}"
    assert "response_class" in inspect.signature(wsgi.create).parameters
