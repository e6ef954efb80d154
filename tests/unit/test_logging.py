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
from portfolio.telemetry.logging import JSONFormatter, logging_config, request_id


def line(message: str = "hello", level: int = logging.INFO, **extra: Any) -> str:
    record = logging.getLogger("portfolio.test").makeRecord(
        "portfolio.test", level, "file.py", 1, message, (), None, extra=extra
    )
    return JSONFormatter().format(record)


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


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
def test_levels_are_upper_case(level: str) -> None:
    assert json.loads(line(level=getattr(logging, level)))["level"] == level


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
