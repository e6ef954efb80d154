"""Logs: one JSON object a line on stdout, as section 9 of the contract lays it out."""

from __future__ import annotations

import logging
import os
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson

from portfolio.config import SERVICE, Settings

request_id: ContextVar[str] = ContextVar("request_id", default="")

# What every LogRecord has; anything else came in by `extra` and is a field of its own.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JSONFormatter(logging.Formatter):
    """Formats a record as one line of JSON; line breaks in values stay inside their strings."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[
                :23
            ]
            + "Z",
            "level": record.levelname,
            "msg": record.getMessage(),
            "logger": record.name,
            "service": SERVICE,
            "request_id": request_id.get(),
            "pid": os.getpid(),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                line.setdefault(name, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def logging_config(settings: Settings) -> dict[str, Any]:
    """Return the configuration for ``logging.config.dictConfig``.

    ``LOG_LEVEL`` rules the service's own loggers. Libraries speak from WARNING up: at DEBUG,
    PyMongo would log whole documents.
    """
    handlers = {"handlers": ["stdout"], "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": f"{__name__}.{JSONFormatter.__name__}"}},
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "formatter": "json",
                "stream": "ext://sys.stdout",
            }
        },
        "root": {"level": "WARNING", "handlers": ["stdout"]},
        "loggers": {
            "portfolio": {"level": settings.log_level, **handlers},
            # Gunicorn tells of each connection at DEBUG.
            "gunicorn.error": {"level": _at_least_info(settings.log_level), **handlers},
        },
    }


def _at_least_info(level: str) -> str:
    return "INFO" if level == "DEBUG" else level
