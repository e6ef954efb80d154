"""The pages work in a real browser, under the policy of production, and talk to this host alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import requests

from tests.browser.conftest import Browser, Screen, every_screen
from tests.support.gunicorn import Gunicorn, wait_until

pytestmark = pytest.mark.slow


@contextmanager
def load(service: Gunicorn) -> Iterator[None]:
    """Some requests, over and over."""
    ended = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            while not ended.wait(0.02):
                session.post(f"{service.url}/api/v1/portfolios", json={"name": "Growth Fund"})
                session.get(f"{service.url}/api/v2/portfolios?name=growth fund")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_redoc_shows_every_operation(browser: Browser, service: Gunicorn) -> None:
    document = requests.get(f"{service.url}/openapi.json", timeout=10).json()
    summaries = {
        operation["summary"] for path in document["paths"].values() for operation in path.values()
    }
    browser.open(f"{service.url}/redoc")
    wait_until(
        lambda: all(summary in browser.text("#redoc") for summary in summaries),
        "ReDoc shows every operation",
    )
    browser.keep("redoc")
    browser.assert_well_behaved(service.url)


@every_screen
def test_redoc_fits_the_screen(browser: Browser, service: Gunicorn, screen: Screen) -> None:
    browser.open(f"{service.url}/redoc", **screen._asdict())
    update = "return document.querySelector('[id*=pdate]')"
    wait_until(lambda: browser.run(update), "ReDoc shows the API")
    browser.scroll_to("[id*=pdate]")
    browser.keep(f"redoc-{screen}")
    assert browser.overflow() == 0
    if screen.dark:
        assert browser.faint_texts() == {}


def test_redoc_follows_the_system_from_day_to_night(browser: Browser, service: Gunicorn) -> None:
    browser.open(f"{service.url}/redoc")
    wait_until(lambda: browser.text("#redoc h1"), "ReDoc shows the API")
    browser.color_scheme(dark=True)
    color = "return getComputedStyle(document.querySelector('#redoc h1') ?? document.body).color"
    wait_until(lambda: browser.run(color) == "rgb(223, 230, 236)", "ReDoc is dark")


def peak(browser: Browser, chart: str) -> float:
    """Return the highest value that the first line of ``chart`` has shown, 0 while it is empty."""
    script = "return Math.max(0, ...samples.map(s => s.values?.[arguments[0]]?.[0] ?? 0))"
    return float(browser.run(script, chart))


def test_the_charts_move_under_load(browser: Browser, service: Gunicorn) -> None:
    browser.open(f"{service.url}/status")
    wait_until(lambda: browser.text("#state") == "Ready", "the page shows that it is ready")
    with load(service):
        for chart in ("rate", "latency", "cpu", "memory"):
            wait_until(lambda chart=chart: peak(browser, chart) > 0, f"the chart of {chart} moves")
        enough = "return samples.filter(s => s.values?.latency).length >= 6"
        wait_until(lambda: browser.run(enough), "there is something to see in the picture")
        browser.keep("status")
        wait_until(lambda: "POST /api/v1/portfolios" in browser.text("#endpoints"), "endpoints")
    assert len(browser.run("return document.querySelectorAll('#workers tbody tr')")) == 2
    assert "6.0" in browser.text("#database")
    assert "replica set" in browser.text("#database")
    browser.assert_well_behaved(service.url)


@every_screen
def test_the_status_page_fits_the_screen(
    browser: Browser, service: Gunicorn, screen: Screen
) -> None:
    browser.open(f"{service.url}/status", **screen._asdict())
    with load(service):
        wait_until(lambda: peak(browser, "rate") > 0, "the chart of requests moves")
    browser.keep(f"status-{screen}")
    assert browser.overflow() == 0
    background = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(15, 21, 26)") == screen.dark


def test_the_status_page_says_so_when_the_service_is_down(
    browser: Browser, service: Gunicorn
) -> None:
    browser.open(f"{service.url}/status")
    wait_until(lambda: browser.text("#state") == "Ready", "the page shows that it is ready")
    service.kill()
    wait_until(lambda: browser.text("#state") == "No answer", "the page says: no answer")
    browser.keep("status-down")
    assert browser.text("#notice").startswith("No answer for")
    service.start()
    wait_until(lambda: browser.text("#state") == "Ready", "the page shows that it is back")
    assert browser.run("return document.querySelector('#notice').hidden")


def test_the_status_page_says_so_when_the_database_is_down(
    browser: Browser, serve: Callable[..., Gunicorn]
) -> None:
    service = serve("mongodb://127.0.0.1:9", WEB_CONCURRENCY="1")
    browser.open(f"{service.url}/status")
    wait_until(lambda: browser.text("#state") == "Not ready", "the page says: not ready")
    browser.keep("status-database-down")
    assert "MongoDB does not answer" in browser.text("#notice")
    assert browser.text("#database-state") == "unhealthy"
