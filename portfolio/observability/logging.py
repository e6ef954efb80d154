"""Logs: one JSON object a line on stdout, as section 9 of the contract lays it out; or text."""

from __future__ import annotations

import logging
import os
import sys
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import click
import orjson

from portfolio.config import SERVICE, Settings
from portfolio.observability.trace_context import trace_context
from portfolio.timestamps import rfc3339

request_id: ContextVar[str] = ContextVar("request_id", default="")

# The attributes of every LogRecord; all others come from `extra` and become fields.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_STATUS_COLORS = {2: "green", 4: "yellow", 5: "red"}
_LEVEL_COLORS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


class JSONFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        trace = trace_context.get()
        line: dict[str, Any] = {
            "ts": rfc3339(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname,
            "msg": record.getMessage(),
            "logger": record.name,
            "service": SERVICE,
            "request_id": request_id.get(),
            "trace_id": trace.trace_id if trace else "",
            "span_id": trace.span_id if trace else "",
            "pid": os.getpid(),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                line.setdefault(name, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class TextFormatter(logging.Formatter):
    """Formats a record as text for people, in local time."""

    def __init__(self, *, colors: bool = False) -> None:
        super().__init__()
        self._colors = colors

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, followed by the traceback if there is one."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if "duration_ms" in fields:
            text = "{method} {path} {status} {duration_ms:.1f} ms".format(**fields)
            color = _STATUS_COLORS.get(fields["status"] // 100)
        else:
            extra = "".join(f" {name}={value}" for name, value in fields.items())
            text = f"{record.levelname} {record.getMessage()}{extra}"
            color = _LEVEL_COLORS.get(record.levelno)
        text = _printable(text)
        if self._colors:
            clock = click.style(clock, dim=True)
            text = click.style(text, color) if color else text
        trace = self.formatException(record.exc_info).splitlines() if record.exc_info else []
        return "\n".join([f"{clock} {text}", *map(_printable, trace)])


def is_no_probe(record: logging.LogRecord) -> bool:
    """Drop, as a filter, the requests of probes and of the status page that succeeded."""
    is_probe = str(getattr(record, "path", "")).startswith("/health")
    return not is_probe or record.levelno >= logging.WARNING


class AtIntervals:
    """A filter that passes at most one record every ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = 0.0

    def __call__(self, _record: logging.LogRecord) -> bool:
        """Return whether the record passes."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


class LogLevelController:
    """The log level and the fraction of requests logged: configured, or changed at run time."""

    def __init__(self, settings: Settings) -> None:
        self._level = settings.log_level
        self._sampling_rate = settings.log_sampling_rate if settings.enable_request_logging else 0.0
        self.level = self._level
        self.request_sampling_rate = self._sampling_rate

    def set_level(self, level: str | None) -> None:
        """Set the log level; None restores the configured one.

        DEBUG and INFO enable the whole request log as well.
        """
        self.level = level or self._level
        detailed = level in ("DEBUG", "INFO")
        self.request_sampling_rate = 1.0 if detailed else self._sampling_rate
        logging.getLogger("portfolio").setLevel(self.level)
        logging.getLogger("gunicorn.error").setLevel(_gunicorn_level(self.level))


def logging_config(settings: Settings, stream: str = "stdout") -> dict[str, Any]:
    """Return the configuration for ``logging.config.dictConfig``; ``stream`` is one of ``sys``.

    ``LOG_LEVEL`` applies to the service's own loggers. Libraries log from WARNING up: at DEBUG,
    PyMongo would log whole documents. An outage is logged once, by the health monitor: PyMongo's
    client would log a traceback every few seconds. OpenTelemetry is throttled, since it logs each
    failed export three times.
    """
    output = getattr(sys, stream)  # None if it is closed
    on_terminal = output is not None and output.isatty()
    as_text = settings.log_format == "text" or (settings.log_format == "auto" and on_terminal)
    no_colors = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"  # no-color.org
    handler = {
        "class": "logging.StreamHandler",
        "formatter": "text" if as_text else "json",
        "stream": f"ext://sys.{stream}",
    }
    own = {"handlers": ["all"], "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {"()": JSONFormatter},
            "text": {"()": TextFormatter, "colors": on_terminal and not no_colors},
        },
        "handlers": {
            "all": {**handler, "filters": [is_no_probe] if as_text else []},
            "seldom": {**handler, "filters": [AtIntervals(60)]},
        },
        "root": {"level": "WARNING", "handlers": ["all"]},
        "loggers": {
            "portfolio": {"level": settings.log_level, **own},
            "gunicorn.error": {"level": _gunicorn_level(settings.log_level), **own},
            "pymongo.client": {"level": "CRITICAL"},
            "opentelemetry": {"handlers": ["seldom"], "propagate": False},
        },
    }


def _gunicorn_level(level: str) -> str:
    return "INFO" if level == "DEBUG" else level  # Gunicorn logs each connection at DEBUG


def _printable(text: str) -> str:
    """Return ``text`` with control characters and line breaks escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
