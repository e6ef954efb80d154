"""``/docs``: its forms work at the first click, on a desktop and a phone, by day and by night."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import requests

from portfolio.devserver.mongod import Mongod
from tests.browser.conftest import Browser, Operation, Screen, every_screen
from tests.support.gunicorn import Gunicorn, wait_until

pytestmark = pytest.mark.slow

PORTFOLIOS = "/api/v1/portfolios"
PORTFOLIO = "/api/v1/portfolio/{portfolio_id}"


def stored(service: Gunicorn) -> list[dict[str, object]]:
    found: list[dict[str, object]] = requests.get(service.url + PORTFOLIOS, timeout=10).json()
    return found


def unfold_all(browser: Browser) -> None:
    """Unfold every operation."""
    wait_until(lambda: browser.text(".opblock"), "Swagger UI shows the API")
    browser.run("document.querySelectorAll('.opblock-summary-control').forEach(e => e.click())")
    folded = "return document.querySelector('.opblock:not(:has(.responses-inner))')"
    wait_until(lambda: browser.run(folded) is None, "all operations are unfolded")


def test_create_change_and_delete_take_a_click_each(browser: Browser, service: Gunicorn) -> None:
    browser.open(f"{service.url}/docs")
    browser.keep("docs")
    create = Operation(browser, "POST", PORTFOLIOS)
    change = Operation(browser, "PUT", PORTFOLIO)
    delete = Operation(browser, "DELETE", PORTFOLIO)
    change.open()  # before there is a portfolio to change: an open form follows too

    assert create.execute() == 201
    browser.keep("docs-created")
    assert [portfolio["name"] for portfolio in stored(service)] == ["Growth Fund"]
    assert change.execute() == 200
    browser.scroll_to(change.selector)
    browser.keep("docs-changed")
    assert change.execute() == 200
    assert [portfolio["version"] for portfolio in stored(service)] == [3]
    assert delete.execute() == 204
    assert stored(service) == []
    browser.assert_well_behaved(service.url)


def test_the_id_in_the_body_follows_the_one_in_the_path(
    browser: Browser, service: Gunicorn
) -> None:
    name = "Typed By Hand"
    created = requests.post(service.url + PORTFOLIOS, json={"name": name}, timeout=10).json()
    browser.open(f"{service.url}/docs")
    change = Operation(browser, "PUT", PORTFOLIO)
    change.open()
    assert change.body()["portfolioId"] == change.value("portfolio_id")

    field = browser.find(change.input("portfolio_id"))
    field.clear()
    field.send_keys(created["portfolioId"])
    wait_until(
        lambda: change.body()["portfolioId"] == created["portfolioId"], "the body has the id too"
    )
    assert change.execute() == 200


def test_what_a_person_has_typed_into_a_body_stays(browser: Browser, service: Gunicorn) -> None:
    browser.open(f"{service.url}/docs")
    change = Operation(browser, "PUT", PORTFOLIO)
    change.open()
    body = browser.find(f"{change.selector} textarea")
    body.clear()
    body.send_keys('{"name": "Mine", "portfolioId": "", "version": 7}')
    assert Operation(browser, "POST", PORTFOLIOS).execute() == 201

    wait_until(lambda: change.body()["portfolioId"], "the body has an id")
    assert change.body()["name"] == "Mine"
    assert change.execute() == 200
    assert [portfolio["name"] for portfolio in stored(service)] == ["Mine"]


@every_screen
def test_the_page_fits_the_screen(browser: Browser, service: Gunicorn, screen: Screen) -> None:
    picture = f"docs-{screen}"
    browser.open(f"{service.url}/docs", **screen._asdict())
    wait_until(lambda: browser.text(".opblock"), "Swagger UI shows the API")
    browser.keep(picture)
    assert browser.overflow() == 0

    assert Operation(browser, "POST", PORTFOLIOS).execute() == 201
    change = Operation(browser, "PUT", PORTFOLIO)
    change.open()
    browser.scroll_to(change.selector)
    browser.keep(f"{picture}-operation")
    assert browser.overflow() == 0


def test_no_operation_is_wider_than_a_phone(browser: Browser, service: Gunicorn) -> None:
    browser.open(f"{service.url}/docs", phone=True)
    unfold_all(browser)
    assert browser.overflow() == 0


def test_every_text_can_be_read_at_night(browser: Browser, service: Gunicorn) -> None:
    browser.open(f"{service.url}/docs", dark=True)
    unfold_all(browser)
    assert browser.faint_texts() == {}


def test_the_page_follows_the_system_from_day_to_night(browser: Browser, service: Gunicorn) -> None:
    browser.open(f"{service.url}/docs")
    background = "return getComputedStyle(document.body).backgroundColor"
    wait_until(lambda: browser.text(".opblock"), "Swagger UI shows the API")
    assert browser.run(background) == "rgb(255, 255, 255)"
    browser.color_scheme(dark=True)
    wait_until(lambda: browser.run(background) == "rgb(28, 32, 34)", "the page is dark")


def test_an_api_key_is_kept_in_this_tab_alone(
    browser: Browser, serve: Callable[..., Gunicorn], replica_set: Mongod, database_name: str
) -> None:
    key = "a-key-for-this-test"
    service = serve(replica_set.uri, MONGODB_DB=database_name, API_KEYS=key)
    service.wait_ready()

    def create() -> int:
        return Operation(browser, "POST", PORTFOLIOS).execute()

    browser.open(f"{service.url}/docs")
    # As earlier versions of the page have left it.
    browser.run("localStorage.setItem('authorized', '{}')")
    browser.open(f"{service.url}/docs")
    assert create() == 401
    browser.click(".btn.authorize")
    wait_until(lambda: browser.text(".auth-container"), "the dialog opens")
    browser.find(".auth-container input").send_keys(key)
    browser.keep("docs-authorize")
    browser.click(".auth-container .btn.authorize")
    wait_until(lambda: "Logout" in browser.text(".auth-container"), "the key is taken")
    browser.click(".btn-done")
    assert create() == 201
    browser.open(f"{service.url}/docs")
    assert create() == 201
    assert browser.run("return localStorage.length") == 0

    browser.driver.switch_to.new_window("tab")
    browser.open(f"{service.url}/docs")
    assert create() == 401
