"""The pages work behind a path prefix of a real nginx, and tell when it hides the health data."""

from __future__ import annotations

import pytest
import requests

from tests.browser.conftest import Browser, Operation
from tests.browser.nginx import REFUSALS, Nginx
from tests.support.gunicorn import Gunicorn, wait_until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("slash", ["", "/"], ids=["", "slash"])
def test_try_it_out_calls_the_service(
    browser: Browser, service: Gunicorn, nginx: Nginx, slash: str
) -> None:
    browser.open(f"{nginx.url}/docs{slash}")
    create = Operation(browser, "POST", "/api/v1/portfolios")
    change = Operation(browser, "PUT", "/api/v1/portfolio/{portfolio_id}")
    assert create.execute() == 201
    assert change.execute() == 200
    browser.scroll_to(f"{change.selector} .curl")
    browser.keep("proxy-docs")
    assert browser.text(f"{change.selector} .request-url pre").startswith(f"{nginx.url}/api/v1/")
    stored = requests.get(f"{service.url}/api/v1/portfolios", timeout=10).json()
    assert [portfolio["version"] for portfolio in stored] == [2]
    browser.assert_well_behaved(nginx.root)


@pytest.mark.parametrize("slash", ["", "/"], ids=["", "slash"])
def test_redoc_shows_urls_with_the_prefix(browser: Browser, nginx: Nginx, slash: str) -> None:
    browser.open(f"{nginx.url}/redoc{slash}")
    urls = "return document.querySelector('#redoc').textContent.match(/http:[^ {]*/g) ?? []"
    shown = wait_until(lambda: browser.run(urls), "ReDoc shows URLs")
    browser.keep("proxy-redoc")
    assert f"{nginx.url}/api/v1/portfolio/" in shown
    assert all(url.startswith(f"{nginx.url}/") for url in shown)
    download = "return document.querySelector('#redoc a[download]').href"
    assert browser.run(download) == f"{nginx.url}/openapi.json"
    browser.assert_well_behaved(nginx.root)


@pytest.mark.parametrize("slash", ["", "/"], ids=["", "slash"])
def test_the_status_page_shows_the_service(browser: Browser, nginx: Nginx, slash: str) -> None:
    browser.open(f"{nginx.url}/status{slash}")
    wait_until(lambda: browser.text("#state") == "Ready", "the page shows that it is ready")
    browser.keep("proxy-status")
    links = "return [...document.querySelectorAll('header nav a')].map(link => link.href)"
    assert browser.run(links) == [f"{nginx.url}/docs", f"{nginx.url}/redoc"]
    browser.assert_well_behaved(nginx.root)


@pytest.mark.parametrize("refusal", REFUSALS)
def test_the_status_page_shows_no_numbers_without_health_data(
    browser: Browser, nginx: Nginx, refusal: str
) -> None:
    browser.open(f"{nginx.root}/{refusal}/status")
    wait_until(lambda: browser.text("#state") == "No health data", "the page says so")
    browser.keep(f"proxy-status-{refusal}")
    notice = browser.text("#notice")
    assert notice.startswith("No health data for")
    assert "health/" in notice
    if refusal in ("unauthorized", "not-found", "bad-gateway"):
        assert REFUSALS[refusal] in notice
    for place in ("#facts", "#database", "#breakers", "#cache", "#endpoints", "#workers"):
        assert browser.text(place) == "", place
    numbers = "return [...document.querySelectorAll('.legend b')].map(b => b.innerText)"
    assert set(browser.run(numbers)) == {"\N{EN DASH}"}
