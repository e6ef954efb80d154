"""The OpenAPI document describes every endpoint and nothing else; its examples work."""

from __future__ import annotations

import copy
import re
from datetime import datetime
from typing import Any

import pytest
import yaml
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

from portfolio.api.responses import EXAMPLE, EXAMPLE_ID, to_json
from portfolio.errors import ErrorCode
from portfolio.models import Portfolio
from tests.support.imports import imported_by
from tests.support.parts import mongomock_app

METHODS = {"get", "put", "post", "delete"}


@pytest.fixture
def document(unit_client: FlaskClient) -> dict[str, Any]:
    return unit_client.get("/openapi.json").json


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method, path): operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def resolve(document: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    name = response.get("$ref", "").rpartition("/")[2]
    return document["components"]["responses"][name] if name else response


def with_references(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    """Return a validator of ``schema`` that finds the document's components."""
    return Draft202012Validator(
        schema | {"components": document["components"]}, format_checker=FormatChecker()
    )


def test_it_is_valid_openapi_31(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_it_describes_every_route_and_nothing_else(
    unit_client: FlaskClient, document: dict[str, Any]
) -> None:
    routes = {
        (method.lower(), rule.rule.replace("<", "{").replace(">", "}"))
        for rule in unit_client.application.url_map.iter_rules()
        if not rule.endpoint.startswith("pages.")
        for method in rule.methods or ()
        if method.lower() in METHODS
    }
    assert set(operations(document)) == routes


def test_every_operation_says_what_it_is_for(document: dict[str, Any]) -> None:
    for operation in operations(document).values():
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"]


def test_every_operation_describes_an_error_of_the_client(document: dict[str, Any]) -> None:
    for operation in operations(document).values():
        assert any(status.startswith("4") for status in operation["responses"])


def test_every_parameter_and_property_is_described(document: dict[str, Any]) -> None:
    for operation in operations(document).values():
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], (operation["operationId"], parameter["name"])
    for name, schema in document["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            assert described.get("description"), (name, field)


def test_both_schemas_of_errors_have_the_codes_as_an_enum(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["ErrorCode"]["enum"] == [code.value for code in ErrorCode]
    for name in ("Error", "ValidationError"):
        assert schemas[name]["properties"]["code"]["allOf"] == [
            {"$ref": "#/components/schemas/ErrorCode"}
        ]


def test_no_default_of_a_parameter_breaks_a_search_by_cursor(
    unit_client: FlaskClient, document: dict[str, Any]
) -> None:
    # A generated client sends the defaults of the document unless it is told otherwise.
    parameters = document["paths"]["/api/v2/portfolios"]["get"]["parameters"]
    schemas = {parameter["name"]: parameter["schema"] for parameter in parameters}
    query = {name: schema["default"] for name, schema in schemas.items() if "default" in schema}
    assert query == {"limit": 50}
    page = unit_client.get("/api/v2/portfolios", query_string=query | {"cursor": ""})
    assert page.status_code == 200, page.text


def test_operation_ids_are_unique_camel_case_verbs(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations(document).values()]
    assert len(set(ids)) == len(ids)
    assert [name for name in ids if not re.fullmatch("[a-z]+([A-Z][a-z]*)+", name)] == []


def test_generated_clients_get_the_names_of_the_contract(document: dict[str, Any]) -> None:
    names = {"Portfolio", "PortfolioCreate", "PortfolioUpdate", "PortfolioPage"}
    names |= {"Error", "ValidationError", "HealthReport"}
    assert names <= document["components"]["schemas"].keys()
    tags = [tag["name"] for tag in document["tags"]]
    assert tags == ["portfolios v1", "portfolios v2", "fast path", "health"]
    assert {tag for found in operations(document).values() for tag in found["tags"]} == set(tags)


def test_serving_the_api_needs_no_part_of_the_document() -> None:
    imported = imported_by(
        "from portfolio.app import create_app; create_app()",
        MONGODB_URI="mongodb://127.0.0.1:9",
        OTEL_SDK_DISABLED="true",
    )
    of_the_document = {name for name in imported if "apispec" in name or "api.openapi." in name}
    assert of_the_document == {"portfolio.api.openapi.annotations"}


def test_yaml_says_the_same_as_json(unit_client: FlaskClient, document: dict[str, Any]) -> None:
    assert yaml.safe_load(unit_client.get("/openapi.yaml").data) == document


def test_a_client_that_has_the_document_is_told_so(unit_client: FlaskClient) -> None:
    tag = unit_client.get("/openapi.json").headers["ETag"]
    again = unit_client.get("/openapi.json", headers={"If-None-Match": tag})
    assert (again.status_code, again.data) == (304, b"")


def test_examples_of_responses_match_their_schemas(document: dict[str, Any]) -> None:
    checked = 0
    for operation in operations(document).values():
        for response in operation["responses"].values():
            for content in resolve(document, response).get("content", {}).values():
                if "example" in content:
                    with_references(document, content["schema"]).validate(content["example"])
                    checked += 1
    assert checked > 30


def test_examples_of_requests_get_the_documented_response(app: Flask) -> None:
    client = app.test_client()
    document = client.get("/openapi.json").json
    call = Caller(client, document)

    created = call("createPortfolio", 201)
    call.portfolio_id = created["portfolioId"]
    assert call("getPortfolio", 200) == created
    assert call("listPortfolios", 200) == [created]
    assert call("validatePortfolios", 200)["valid"] == [call.portfolio_id]
    assert call("updatePortfolio", 200)["version"] == 2
    assert len(call("createPortfoliosFast", 201)["portfolios"]) == 2
    assert len(call("createPortfolios", 201)) == 2
    assert call("searchPortfolios", 200)["pagination"]["totalElements"] == 5
    assert call("searchPortfoliosFast", 200)["pagination"]["totalElements"] == 5
    assert call("searchPortfolios", 200, query="cursor=&limit=2")["pagination"]["nextCursor"]
    assert call("resolvePortfolios", 200)["missing"]["ids"] == ["nonsense"]
    assert call("resolvePortfolios", 200, query="fields=name")["portfolios"][0] == {
        "name": "Growth and Income Fund"
    }
    call("searchPortfolios", 200, query="fields=version")
    call("deletePortfolio", 204, query="version=2")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "ServiceInfo"),
        ("/health/ready", "Readiness"),
        ("/health/metrics", "ServiceMetrics"),
        ("/api/fast/performance/stats", "FastPathStats"),
    ],
)
def test_every_member_of_a_report_is_described(
    unit_client: FlaskClient, document: dict[str, Any], path: str, name: str
) -> None:
    unit_client.get(path)
    report = unit_client.get(path).json
    schema = document["components"]["schemas"][name]
    assert report.keys() == schema["properties"].keys()
    with_references(document, schema).validate(report)


def test_the_schema_of_a_portfolio_has_the_fields_that_are_sent(document: dict[str, Any]) -> None:
    portfolio = Portfolio(EXAMPLE_ID, "Growth Fund", datetime(2024, 1, 20), 1)
    described = document["components"]["schemas"]["Portfolio"]["properties"]
    assert to_json(portfolio).keys() == described.keys() == EXAMPLE.keys()


def test_the_examples_of_an_update_are_of_one_portfolio(document: dict[str, Any]) -> None:
    update = document["paths"]["/api/v1/portfolio/{portfolio_id}"]["put"]
    (in_path,) = (found["example"] for found in update["parameters"] if found["in"] == "path")
    in_body = update["requestBody"]["content"]["application/json"]["example"]
    result = update["responses"]["200"]["content"]["application/json"]["example"]
    assert in_path == in_body["portfolioId"] == result["portfolioId"]
    assert result["version"] == in_body["version"] + 1


class Caller:
    """Sends the document's own examples and validates each response against the document."""

    def __init__(self, client: FlaskClient, document: dict[str, Any]) -> None:
        self.client = client
        self.document = document
        self.portfolio_id = EXAMPLE_ID

    def __call__(self, operation_id: str, status: int, query: str = "") -> Any:
        (method, path), operation = next(
            described
            for described in operations(self.document).items()
            if described[1]["operationId"] == operation_id
        )
        body = None
        if "requestBody" in operation:
            body = copy.deepcopy(operation["requestBody"]["content"]["application/json"]["example"])
            if "portfolioId" in body:
                body["portfolioId"] = self.portfolio_id
            if "ids" in body:
                body["ids"][0] = self.portfolio_id
            if "portfolioIds" in body:
                body["portfolioIds"][0] = self.portfolio_id
        path = path.replace("{portfolio_id}", self.portfolio_id)
        response = self.client.open(f"{path}?{query}", method=method.upper(), json=body)
        assert response.status_code == status, (operation_id, response.text)
        if status != 204:
            schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
            with_references(self.document, schema).validate(response.json)
        return response.json


def test_api_keys_are_described_where_they_are_required() -> None:
    document = mongomock_app(API_KEYS="secret").test_client().get("/openapi.json").json
    assert set(document["components"]["securitySchemes"]) == {"apiKey", "bearer"}
    for (_, path), operation in operations(document).items():
        assert operation.get("security", document["security"]) == (
            [{"apiKey": []}, {"bearer": []}] if path.startswith("/api/") else []
        )
        assert ("401" in operation["responses"]) == path.startswith("/api/")


def test_without_api_keys_none_is_described(document: dict[str, Any]) -> None:
    assert document["security"] == []
    assert "securitySchemes" not in document["components"]
    assert "Unauthorized" not in document["components"]["responses"]
