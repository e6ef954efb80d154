"""The OpenAPI 3.1 document, built from the routes, their descriptions and Marshmallow schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import fields
from werkzeug.routing import Rule

from portfolio import errors
from portfolio.api.fields import InputField, Integer
from portfolio.api.openapi import health_schemas, response_schemas
from portfolio.api.openapi.annotations import ATTRIBUTE, JSON, Body, Result, describe
from portfolio.api.responses import EXAMPLE, TOO_LARGE
from portfolio.config import VERSION, Settings
from portfolio.observability.metrics import route_template

_COMPONENTS = yaml.safe_load(Path(__file__).with_name("components.yaml").read_text())
_COMPONENTS["parameters"]["portfolio_id"]["example"] = EXAMPLE["portfolioId"]
_HEADERS = _COMPONENTS["headers"]
_SCHEMAS = vars(response_schemas) | vars(health_schemas)


class _URITooLong(errors.BadRequest):
    status = 414


# An example of each, by name.
_ERRORS: dict[str, errors.PortfolioError] = {
    "BadRequest": errors.BadRequest("Only one search parameter allowed: name or name_like"),
    "Unauthorized": errors.Unauthorized(),
    "NotFound": errors.NotFound(),
    "VersionConflict": errors.VersionConflict(),
    "IdempotencyKeyInFlight": errors.IdempotencyKeyInUse(),
    "NameConflict": errors.NameConflict(["Growth Fund"]),
    "PreconditionFailed": errors.PreconditionFailed(),
    "PayloadTooLarge": errors.TooLarge(TOO_LARGE),
    "URITooLong": _URITooLong("Request URI Too Long"),
    "UnsupportedMediaType": errors.UnsupportedMediaType(),
    "UnprocessableEntity": errors.UnprocessableEntity(
        [errors.LocatedError(loc=["body", "name"], msg="Field required", type="missing")]
    ),
    "InternalServerError": errors.PortfolioError(),
    "ServiceUnavailable": errors.Unavailable(),
}

# The errors that follow from a body, and from a parameter. Any request can get 414 and 500; those
# that ask for portfolios can get 503.
_BODY_ERRORS = ("PayloadTooLarge", "UnsupportedMediaType", "UnprocessableEntity")
_PARAMETER_ERRORS = {
    "portfolio_id": ("NotFound",),
    "Idempotency-Key": ("BadRequest", "IdempotencyKeyInFlight"),
    "If-Match": ("VersionConflict", "PreconditionFailed"),
}


def build(app: Flask, settings: Settings) -> dict[str, Any]:
    """Return the document that describes the routes of ``app``, with API keys if it has any."""
    marshmallow = MarshmallowPlugin()
    spec = APISpec(
        title="GlobeCo Portfolio Service",
        version=VERSION,
        openapi_version="3.1.0",
        plugins=[marshmallow],
        info=_COMPONENTS["info"],
        # Relative to this document's own URL, so that it holds behind any path prefix. A prefix
        # that a request's header claims is not used: anybody can send one.
        servers=[{"url": ".", "description": "where this document comes from"}],
        tags=list(_COMPONENTS["tags"].values()),
        # Operations that need an API key say so; all others need none.
        security=[],
    )
    converter: Any = marshmallow.converter
    converter.add_attribute_function(_describe_field)
    converter.add_parameter_attribute_function(_describe_parameter)
    _add_components(spec, settings)
    for rule in app.url_map.iter_rules():
        _add_path(spec, app, rule, protected=bool(settings.api_keys))
    return spec.to_dict()


def _describe_field(_converter: Any, field: fields.Field[Any], ret: dict[str, Any]) -> Any:
    """Return the JSON Schema of ``field``, of which APISpec has found ``ret``."""
    if ret.get("default", ...) is None:
        del ret["default"]  # absent and null mean the same; the schema of a name has no null
    if not isinstance(field, InputField):
        return {}
    schema = field.json_schema
    if field.allow_none and "anyOf" in schema:
        return {"anyOf": [*schema["anyOf"], {"type": "null"}]}
    if field.allow_none and schema["type"] == "array":
        return schema | {"type": ["array", "null"]}
    return schema


def _describe_parameter(_converter: Any, field: fields.Field[Any], ret: dict[str, Any]) -> Any:
    """Return what differs in a query parameter, where an integer can only be digits."""
    if not isinstance(field, Integer):
        return {}
    kept = {key: value for key, value in ret["schema"].items() if key != "anyOf"}
    return {"schema": kept | field.json_schema["anyOf"][0]}


def _add_components(spec: APISpec, settings: Settings) -> None:
    spec.components.schema(
        "Portfolio", {"examples": [EXAMPLE]}, schema=response_schemas.PortfolioSchema
    )
    spec.components.schema(
        "PartialPortfolio",
        {"description": "The fields that `fields` of the request names"},
        schema=response_schemas.partial_portfolio,
    )
    # Named here since a field of PortfolioPage refers to either.
    spec.components.schema("Pagination", schema=response_schemas.PaginationSchema)
    spec.components.schema("CursorPagination", schema=response_schemas.CursorPaginationSchema)
    meaning = "the kind of an error; the reference says which to retry"
    codes = {"type": "string", "enum": list(errors.ErrorCode), "description": meaning}
    spec.components.schema("ErrorCode", codes)
    for name in _ERRORS:
        if name != "Unauthorized" or settings.api_keys:
            spec.components.response(name, _error(name))
    if settings.api_keys:
        for name, scheme in _COMPONENTS["securitySchemes"].items():
            spec.components.security_scheme(name, scheme)


def _add_path(spec: APISpec, app: Flask, rule: Rule, *, protected: bool) -> None:
    view = app.view_functions[rule.endpoint]
    operation: describe | None = getattr(view, ATTRIBUTE, None)
    if operation is None:
        return
    blueprint = rule.endpoint.partition(".")[0]
    described: dict[str, Any] = {
        "operationId": operation.operation_id,
        "tags": [_COMPONENTS["tags"][blueprint]["name"]],
        "summary": (view.__doc__ or "").removesuffix("."),
        "description": operation.description,
    }
    names = (*rule.arguments, *operation.parameters)
    error_names = [error for name in names for error in _PARAMETER_ERRORS.get(name, ())]
    parameters = [_COMPONENTS["parameters"][name] | {"name": name} for name in names]
    if operation.query:
        parameters.insert(len(rule.arguments), {"in": "query", "schema": operation.query})
    if parameters:
        described["parameters"] = parameters
    if operation.body:
        described["requestBody"] = _body(operation.body)
        error_names += _BODY_ERRORS
    error_names += operation.errors
    if "/portfolio" in rule.rule:
        error_names.append("ServiceUnavailable")
    error_names += ["URITooLong", "InternalServerError"]
    if protected and rule.rule.startswith("/api/"):
        described["security"] = [{name: []} for name in _COMPONENTS["securitySchemes"]]
        error_names.append("Unauthorized")
    described["responses"] = {
        **{str(each.status): _result(each) for each in (operation.result, operation.other) if each},
        **{str(_ERRORS[name].status): name for name in error_names},
    }
    (method,) = {method.lower() for method in rule.methods or ()} - {"head", "options"}
    spec.path(route_template(rule.rule), operations={method: described})


def _body(body: Body) -> dict[str, Any]:
    schema: Any = body.schema
    if body.max_items is not None:
        schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": body.max_items}
    return {"required": True, "content": {JSON: {"schema": schema, "example": body.example}}}


def _result(result: Result) -> dict[str, Any]:
    described: dict[str, Any] = {"description": result.description}
    for media_type in result.media_types:
        schema: Any = {"type": "string"}
        if media_type == JSON:
            if result.schema is None:
                continue
            schema = _schema(result.schema)
            if f"Partial{result.schema}Schema" in _SCHEMAS:
                schema = {"anyOf": [schema, _schema(f"Partial{result.schema}")]}
            if result.many:
                schema = {"type": "array", "items": schema}
        described.setdefault("content", {})[media_type] = {"schema": schema}
    example = result.example
    if example is None and result.schema == "Portfolio":
        example = [EXAMPLE] if result.many else EXAMPLE
    if example is not None:
        described["content"][result.media_types[0]]["example"] = example
    headers = ("Retry-After",) if result.status == 503 else result.headers
    if headers:
        described["headers"] = {name: _HEADERS[name] for name in headers}
    if result.links:
        described["links"] = {name: _COMPONENTS["links"][name] for name in result.links}
    return described


def _error(name: str) -> dict[str, Any]:
    error = _ERRORS[name]
    schema = _schema("ValidationError" if error.status == 422 else "Error")
    content = {"schema": schema, "example": errors.error_body(error.code, error.detail)}
    meaning = _COMPONENTS["errors"][name]
    described: dict[str, Any] = {"description": meaning, "content": {JSON: content}}
    if error.status == 503:
        described["headers"] = {"Retry-After": _HEADERS["Retry-After"]}
    return described


def _schema(name: str) -> Any:
    return _SCHEMAS[f"{name}Schema"]
