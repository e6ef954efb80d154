"""The OpenAPI document, the two pages that show it, and the status page.

All of it comes from this service: a cluster may have no access to the internet, and a script from
another host could read API keys. Each page's Content-Security-Policy allows what the page needs and
no more.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from functools import cache, lru_cache, partial
from pathlib import Path
from urllib.parse import quote

import orjson
from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import NotFound

from portfolio.api.services import services
from portfolio.middleware.compression import accepts_gzip

blueprint = Blueprint("pages", __name__)

_HERE = Path(__file__).parent
_ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
}
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
# Both pages style elements from their scripts; ReDoc searches in a worker made of a blob.
_POLICY = (
    "default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@blueprint.before_request
def _drop_trailing_slash() -> Response | None:
    """Redirect ``/docs/`` to ``/docs``: the pages name their assets relative to themselves.

    The target is relative too, so that a path prefix of a reverse proxy survives.
    """
    path = request.path
    if not path.endswith("/"):
        return None
    target = quote(path.rstrip("/").rpartition("/")[2])
    if request.query_string:
        target += "?" + request.query_string.decode("latin-1")
    return Response(status=308, headers={"Location": f"../{target}"})


@blueprint.get("/openapi.json")
def openapi_json() -> Response:
    """The OpenAPI document as JSON."""
    return _send(_document(), "application/json")


@blueprint.get("/openapi.yaml")
def openapi_yaml() -> Response:
    """The OpenAPI document as YAML."""
    return _send(_to_yaml(_document()), "application/yaml")


@blueprint.get("/docs", defaults={"name": "docs.html"})
@blueprint.get("/redoc", defaults={"name": "redoc.html"})
@blueprint.get("/status", defaults={"name": "status.html"})
def page(name: str) -> Response:
    """A page: Swagger UI and ReDoc show the document, the last one the state of this instance."""
    packed, policy = _load(name)
    return _send(packed, "text/html", {"Content-Security-Policy": policy})


@blueprint.get("/pages/<name>")
def asset(name: str) -> Response:
    """A script or style sheet of the pages."""
    if name not in _ASSETS:
        raise NotFound
    packed = _read(_HERE / "vendor" / f"{name}.gz")
    return _send(packed, _ASSETS[name], {"Cache-Control": "public, max-age=3600"})


# Whatever is sent is compressed once, not for each request, and unpacked once.
_pack = partial(gzip.compress, mtime=0)
_unpack = lru_cache(maxsize=8)(gzip.decompress)
_read = cache(Path.read_bytes)


@cache
def _load(name: str) -> tuple[bytes, str]:
    """Return the page, packed, and its policy, which names each inline script by its hash."""
    html = (_HERE / name).read_text()
    digests = [hashlib.sha256(code.encode()).digest() for code in _INLINE_SCRIPT.findall(html)]
    scripts = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return _pack(html.encode()), _POLICY.format(scripts=scripts)


def _send(packed: bytes, mimetype: str, headers: dict[str, str] | None = None) -> Response:
    """Return a response with what is ``packed``, unpacked if the client does not accept gzip."""
    if accepts_gzip(request.headers.get("Accept-Encoding", "")):
        response = Response(packed, headers=headers, mimetype=mimetype)
        response.headers["Content-Encoding"] = "gzip"
    else:
        response = Response(_unpack(packed), headers=headers, mimetype=mimetype)
    response.vary.add("Accept-Encoding")
    response.add_etag()
    return response


def _document() -> bytes:
    """Return the document as JSON, packed, built on first use.

    Building it takes CPU and memory, which a pod that never serves it should not spend.
    """
    if "openapi" not in current_app.extensions:
        # Deferred: only the document needs APISpec.
        from portfolio.api.openapi.document import build  # noqa: PLC0415

        document = build(current_app, services().settings)
        current_app.extensions["openapi"] = _pack(orjson.dumps(document))
    return current_app.extensions["openapi"]  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def _to_yaml(document: bytes) -> bytes:
    import yaml  # noqa: PLC0415 - only this document needs it

    loaded = orjson.loads(_unpack(document))
    return _pack(yaml.safe_dump(loaded, sort_keys=False, encoding="utf-8"))
