"""Schemathesis reads the document, makes requests that keep and break it, and finds nothing.

``SCHEMATHESIS_EXAMPLES`` sets how many requests each operation gets at most in each mode.
"""

from __future__ import annotations

import os

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, settings
from schemathesis import Case

_EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "10"))


@pytest.fixture
def api(app: Flask) -> schemathesis.BaseSchema:
    app.extensions["portfolio"].start()
    return schemathesis.openapi.from_wsgi("/openapi.json", app)


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(max_examples=_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_request_gets_an_answer_that_the_document_promises(case: Case) -> None:
    case.call_and_validate()
