"""The service's OpenAPI 3.1 document, made from its routes and its Marshmallow schemas."""

from __future__ import annotations

import copy
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec_webframeworks.flask import FlaskPlugin
from flask import Flask

from portfolio.api.openapi.answers import RESPONSES, SCHEMAS
from portfolio.api.openapi.inputs import describe_field, describe_parameter
from portfolio.api.openapi.operations import OPERATIONS, TAGS
from portfolio.config import VERSION, Settings

_DESCRIPTION = """\
Stores the portfolios of GlobeCo: a name, a date of creation and a version each.

* Every portfolio has a **version**, which grows by one with each change. A change or a deletion
  names the version that its author has seen, and is refused with 409 where another came first.
* Every answer carries `X-Request-ID`: the one that the request had, or a new one. Log lines and
  traces carry it too.
* Every error is JSON with `detail`: a sentence, or, with status 422, a list of all faults.
* 503 says that the database can't answer now; `Retry-After` says when to try again.
"""


_APIS = ("v1.", "v2.", "fast.")


def build(app: Flask, settings: Settings) -> dict[str, Any]:
    """Return the document that describes ``app``.

    Args:
        app: the application whose routes are described.
        settings: tells whether API keys are asked for.
    """
    marshmallow = MarshmallowPlugin(schema_name_resolver=_schema_name)
    spec = APISpec(
        title="GlobeCo Portfolio Service",
        version=VERSION,
        openapi_version="3.1.0",
        plugins=[marshmallow, FlaskPlugin()],
        info={"description": _DESCRIPTION, "license": {"name": "MIT", "identifier": "MIT"}},
        # Relative to this document's own URL, so that it holds behind any path prefix. A prefix
        # that a request's header claims is not used: anybody can send one.
        servers=[{"url": ".", "description": "where this document comes from"}],
        tags=TAGS,
    )
    converter: Any = marshmallow.converter
    converter.add_attribute_function(describe_field)
    converter.add_parameter_attribute_function(describe_parameter)
    for name, schema in SCHEMAS.items():
        spec.components.schema(name, schema)
    for name, response in RESPONSES.items():
        spec.components.response(name, response)
    if settings.api_keys:
        spec.components.security_scheme(
            "apiKey", {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        )
        spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
    for rule in app.url_map.iter_rules():
        if rule.endpoint in OPERATIONS:
            _add_path(spec, app, rule.endpoint, protected=bool(settings.api_keys))
    return spec.to_dict()


def _add_path(spec: APISpec, app: Flask, endpoint: str, *, protected: bool) -> None:
    method, described = OPERATIONS[endpoint]
    operation = {"operationId": endpoint.replace(".", "_"), **described}
    if protected and endpoint.startswith(_APIS):
        operation["security"] = [{"apiKey": []}, {"bearer": []}]
        operation["responses"] = described["responses"] | {"401": "Unauthorized"}
    # Copied: APISpec resolves references in place.
    operations = {method: copy.deepcopy(operation)}
    spec.path(view=app.view_functions[endpoint], app=app, operations=operations)


def _schema_name(schema: Any) -> str:
    name = schema if isinstance(schema, str) else getattr(schema, "__name__", None)
    return (name or type(schema).__name__).removesuffix("Schema")
