"""The pages come from the service alone, under a policy that keeps them to it."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from pathlib import Path
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient

from tests.support.parts import mongomock_app

VENDOR = Path(__file__).parents[2] / "portfolio" / "api" / "docs" / "vendor"
PAGES = ["/docs", "/redoc", "/status"]
FORGED = {"X-Forwarded-Prefix": "/evil", "X-Script-Name": "/evil", "X-Forwarded-Host": "evil"}


def client_of(**variables: str) -> FlaskClient:
    return mongomock_app(**variables).test_client()


@pytest.mark.parametrize("path", PAGES)
def test_a_page_names_no_other_host(unit_client: FlaskClient, path: str) -> None:
    page = unit_client.get(path)
    assert page.status_code == 200
    assert page.mimetype == "text/html"
    assert not re.search(r"(src|href)=\"(https?:)?//", page.text)


@pytest.mark.parametrize("path", PAGES)
def test_all_that_a_page_refers_to_is_there(unit_client: FlaskClient, path: str) -> None:
    references = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', unit_client.get(path).text)
    assert references
    for reference in references:
        assert unit_client.get(f"/{reference}").status_code in (200, 503), reference


@pytest.mark.parametrize("path", [*PAGES, "/openapi.json", "/openapi.yaml"])
def test_a_trailing_slash_leads_to_the_page(unit_client: FlaskClient, path: str) -> None:
    answer = unit_client.get(f"{path}/?from=a%0d%0ab", headers=FORGED)
    assert answer.status_code == 308
    # Relative, so that a path prefix of a reverse proxy survives.
    assert answer.headers["Location"] == f"..{path}?from=a%0d%0ab"
    url = urljoin(f"http://host/portfolio{path}/", answer.headers["Location"])
    assert url.startswith(f"http://host/portfolio{path}?")


def test_the_documents_server_is_relative_to_it(unit_client: FlaskClient) -> None:
    (server,) = unit_client.get("/openapi.json").json["servers"]
    for prefix in ("", "/portfolio", "/a/b"):
        document = f"https://host{prefix}/openapi.json"
        assert urljoin(document, server["url"]) == f"https://host{prefix}/"


@pytest.mark.parametrize("path", [*PAGES, "/openapi.json"])
def test_nothing_depends_on_a_prefix_that_a_client_claims(
    unit_client: FlaskClient, path: str
) -> None:
    assert unit_client.get(path, headers=FORGED).data == unit_client.get(path).data


@pytest.mark.parametrize("path", PAGES)
def test_a_page_sets_its_own_policy_in_production_too(path: str) -> None:
    page = client_of(ENVIRONMENT="production").get(path)
    policies = page.headers.getlist("Content-Security-Policy")
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'; script-src 'self' 'sha256-")
    assert "unsafe-eval" not in policies[0]
    assert page.headers["X-Frame-Options"] == "DENY"


def test_everything_else_keeps_the_strictest_policy() -> None:
    policy = (
        client_of(ENVIRONMENT="production").get("/openapi.json").headers["Content-Security-Policy"]
    )
    assert policy == "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize("path", [*PAGES, "/openapi.json", "/openapi.yaml"])
def test_one_setting_turns_all_of_it_off(path: str) -> None:
    assert client_of(ENABLE_DOCS="false").get(path).status_code == 404


def test_scripts_are_sent_compressed_where_the_client_can_read_it(unit_client: FlaskClient) -> None:
    path = "/pages/swagger-ui.css"
    plain = unit_client.get(path)
    packed = unit_client.get(path, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    ("path", "accepted"),
    [
        ("/openapi.json", "gzip"),
        ("/status", "gzip, br"),
        ("/pages/swagger-ui.css", "gzip"),
        ("/pages/swagger-ui.css", "br"),
        ("/pages/swagger-ui.css", ""),
    ],
)
def test_what_anybody_may_ask_for_is_compressed_or_unpacked_once(
    unit_client: FlaskClient, monkeypatch: pytest.MonkeyPatch, path: str, accepted: str
) -> None:
    headers = {"Accept-Encoding": accepted}
    first = unit_client.get(path, headers=headers)
    for module, name in ((gzip, "compress"), (gzip, "decompress"), (zlib, "compressobj")):
        monkeypatch.delattr(module, name)
    assert unit_client.get(path, headers=headers).data == first.data
    assert first.headers.get("Content-Encoding") == ("gzip" if "gzip" in accepted else None)


@pytest.mark.parametrize("accepted", ["gzip", ""])
def test_scripts_are_kept_by_browsers_and_asked_for_again(
    unit_client: FlaskClient, accepted: str
) -> None:
    headers = {"Accept-Encoding": accepted}
    first = unit_client.get("/pages/swagger-ui.css", headers=headers)
    assert first.headers.getlist("Cache-Control") == ["public, max-age=3600"]
    assert "Date" not in first.headers, "Gunicorn adds it"
    headers["If-None-Match"] = first.headers["ETag"]
    assert unit_client.get("/pages/swagger-ui.css", headers=headers).status_code == 304


def test_no_other_file_is_served(unit_client: FlaskClient) -> None:
    for name in ("README.md", "../routes.py", "%2e%2e/routes.py", "swagger-ui.css.gz"):
        assert unit_client.get(f"/pages/{name}").status_code == 404


def test_what_others_wrote_is_as_they_released_it() -> None:
    rows = re.findall(r"\| `(\S+)` \|.*\| `([0-9a-f]{64})` \|", (VENDOR / "README.md").read_text())
    assert len(rows) == 3
    for name, sum in rows:
        text = gzip.decompress((VENDOR / name).read_bytes())
        # The one change that the table's page tells of, taken back.
        text = re.sub(rb"data:image/gif;base64,R0lGODlhAQAB[^\"]*", REDOC_LOGO, text)
        assert hashlib.sha256(text).hexdigest() == sum, name


REDOC_LOGO = b"https://cdn.redoc.ly/redoc/logo-mini.svg"
