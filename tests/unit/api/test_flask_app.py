"""What the service overrides in Flask and Werkzeug does what theirs does."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException
from werkzeug.test import create_environ, run_wsgi_app

from portfolio.api.flask_app import Application
from portfolio.api.responses import json_response
from portfolio.observability.metrics import ENDPOINT

PATHS = [
    "/",
    "/health/live",
    "/api/v1/portfolios",
    "/api/v1/portfolios/",
    "/api/v1/portfolio/65abd8e45c6f2a0c3f1e9b7d",
    "/api/v1/portfolio/a%20b%2Fc",
    "/api/v2/portfolios?name=a&limit=3",
    "/api/fast/portfolios/search",
    "//api/v1/portfolios",
    "/api//v1/portfolios",
    "/nowhere",
]


def sent(kind: type[Flask], response: Response, method: str) -> Any:
    """Return what an application of this kind sends if its view returns ``response``."""
    app = kind("sent", static_folder=None)
    app.add_url_rule("/", "view", lambda: response, methods=["GET", "POST"])
    body, status, headers = run_wsgi_app(app, create_environ(method=method))
    return status, sorted(headers), b"".join(body)


@pytest.mark.parametrize("status", [200, 201, 400, 404, 422, 503])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_a_json_response_is_sent_as_flask_sends_it(status: int, method: str) -> None:
    headers = {"ETag": '"a-1"', "Link": '</a?name=b%20c>; rel="next"', "Retry-After": "1"}
    ours = json_response({"name": "Größe"}, status, headers)
    theirs = Response(ours.data, status, headers, content_type="application/json")
    assert sent(Application, ours, method) == sent(Flask, theirs, method)


def matched(app: Flask, adapter: Any, method: str) -> Any:
    try:
        return adapter.match(method=method, return_rule=True)
    except HTTPException as error:
        return type(error), error.code


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", PATHS)
def test_a_request_is_routed_as_flask_routes_it(
    unit_client: FlaskClient, path: str, method: str
) -> None:
    app = unit_client.application
    request = app.request_class(create_environ(path, method=method))
    ours, theirs = app.create_url_adapter(request), Flask.create_url_adapter(app, request)
    assert matched(app, ours, method) == matched(app, theirs, method)


def test_the_template_of_the_route_is_in_the_environ(unit_client: FlaskClient) -> None:
    environ = create_environ("/api/v1/portfolio/nonsense")
    list(unit_client.application(environ, lambda *_: None))
    assert environ[ENDPOINT] == "/api/v1/portfolio/{portfolio_id}"
