"""Logs: section 9 of the contract."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from typing import Any

import pytest

from portfolio.config import Settings
from portfolio.observability.logging import (
    JSONFormatter,
    TextFormatter,
    is_no_probe,
    logging_config,
    request_id,
)


def record(message: str = "request", level: int = logging.INFO, **extra: Any) -> logging.LogRecord:
    return logging.getLogger("portfolio.test").makeRecord(
        "portfolio.test", level, "file.py", 1, message, (), None, extra=extra
    )


def line(message: str = "hello", **extra: Any) -> str:
    return JSONFormatter().format(record(message, **extra))


def test_a_line_has_the_fields_of_the_contract() -> None:
    token = request_id.set("abc")
    try:
        entry = json.loads(line(status=200))
    finally:
        request_id.reset(token)
    assert entry["level"] == "INFO"
    assert entry["msg"] == "hello"
    assert entry["logger"] == "portfolio.test"
    assert entry["service"] == "globeco-portfolio-service"
    assert entry["request_id"] == "abc"
    assert {"trace_id", "span_id"} <= set(entry)
    assert entry["pid"] == os.getpid()
    assert entry["status"] == 200
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["ts"])


def test_newlines_in_values_stay_inside_their_strings() -> None:
    text = line('one\ntwo "three"\r\n', path="/a\n{", odd={1: object})
    assert len(text.splitlines()) == 1
    assert json.loads(text)["msg"] == 'one\ntwo "three"\r\n'
    assert json.loads(text)["path"] == "/a\n{"


def test_a_field_cannot_forge_another() -> None:
    assert json.loads(line(level_=1, service="other"))["service"] == "globeco-portfolio-service"


def test_an_exception_is_one_field() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed", (), sys.exc_info())
    text = JSONFormatter().format(record)
    assert len(text.splitlines()) == 1
    assert "ValueError: broken" in json.loads(text)["exception"]


def test_log_level_rules_the_service_and_not_its_libraries() -> None:
    config = logging_config(Settings.from_environment({"LOG_LEVEL": "DEBUG"}))
    assert config["loggers"]["portfolio"]["level"] == "DEBUG"
    assert config["root"]["level"] == "WARNING"


# For people


def text(message: str = "request", level: int = logging.INFO, **extra: Any) -> str:
    """Return a line without its time."""
    formatted = TextFormatter(colors=extra.pop("colors", False)).format(
        record(message, level, **extra)
    )
    return formatted if "\x1b" in formatted else re.sub(r"^\d\d:\d\d:\d\d ", "", formatted)


ANSWERED = {"method": "GET", "path": "/api", "endpoint": "x", "status": 200, "duration_ms": 1.26}


def test_text_says_what_was_asked_and_how_long_it_took() -> None:
    assert text(**ANSWERED) == "GET /api 200 1.3 ms"


def test_text_has_other_messages_with_their_fields() -> None:
    assert text("MongoDB answers", topology="standalone") == (
        "INFO MongoDB answers topology=standalone"
    )


def test_text_shows_nothing_that_a_terminal_would_obey() -> None:
    shown = text(**ANSWERED | {"path": "/\x1b[2J\n\u202eé"})
    assert shown == "GET /\\x1b[2J\\n\\u202eé 200 1.3 ms"
    assert text("two\nlines") == "INFO two\\nlines"


def test_text_ends_with_the_traceback() -> None:
    failed = record("failed", logging.ERROR)
    try:
        raise ValueError("broken\x1b[2J")
    except ValueError:
        failed.exc_info = sys.exc_info()
    lines = TextFormatter().format(failed).split("\n")
    assert lines[0].endswith("ERROR failed")
    assert lines[1].startswith("Traceback")
    assert lines[-1] == "ValueError: broken\\x1b[2J"


@pytest.mark.parametrize(("status", "color"), [(200, 32), (404, 33), (503, 31)])
def test_colors_tell_success_from_failure(status: int, color: int) -> None:
    assert f"\x1b[{color}mGET" in text(colors=True, **ANSWERED | {"status": status})


def test_probes_are_left_out_unless_they_fail() -> None:
    probe = ANSWERED | {"path": "/health/ready"}
    assert not is_no_probe(record(**probe))
    assert is_no_probe(record(level=logging.ERROR, **probe))
    assert is_no_probe(record(**ANSWERED))


@pytest.mark.parametrize(
    ("variables", "is_terminal", "formatter", "colors"),
    [
        ({}, True, "json", True),
        ({"LOG_FORMAT": "auto"}, False, "json", False),
        ({"LOG_FORMAT": "auto"}, True, "text", True),
        ({"LOG_FORMAT": "auto", "NO_COLOR": "1"}, True, "text", False),
        ({"LOG_FORMAT": "auto", "NO_COLOR": ""}, True, "text", True),
        ({"LOG_FORMAT": "auto", "TERM": "dumb"}, True, "text", False),
        ({"LOG_FORMAT": "text"}, False, "text", False),
        ({"LOG_FORMAT": "JSON"}, True, "json", True),
    ],
)
def test_one_setting_chooses_the_format(
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    is_terminal: bool,
    formatter: str,
    colors: bool,
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal, raising=False)
    config = logging_config(Settings.from_environment(variables))
    assert {handler["formatter"] for handler in config["handlers"].values()} == {formatter}
    assert config["formatters"]["text"]["colors"] is colors
    assert (is_no_probe in config["handlers"]["all"]["filters"]) == (formatter == "text")
