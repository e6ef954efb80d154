"""The README tells what the code does."""

from __future__ import annotations

import re

from flask import Flask
from flask.testing import FlaskClient

from portfolio.config import settings_fields
from tests.support.gunicorn import ROOT

README = (ROOT / "README.md").read_text()


def test_every_variable_is_in_the_readme() -> None:
    table = README[README.index("## Configuration") : README.index("## Under Gunicorn")]
    told = set(re.findall(r"`([A-Z_]+)`", table)) | {"OTEL_SDK_DISABLED"}
    assert {field.metadata["variable"] for field in settings_fields()} <= told


def test_every_endpoint_is_in_the_readme(unit_client: FlaskClient) -> None:
    app = unit_client.application
    assert isinstance(app, Flask)
    table = README[README.index("## Endpoints") : README.index("## Configuration")]
    told = set(re.findall(r"(/[a-z0-9_/{}.]*)[?`, ]", table))
    rules = {re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule) for rule in app.url_map.iter_rules()}
    assert rules - told == {"/pages/{name}"}, "but for the files of the pages"
