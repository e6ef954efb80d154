"""A headless Chromium and an nginx, where there are some.

Debian: ``chromium``, ``chromium-driver`` and ``nginx``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webelement import WebElement

from portfolio.devserver.mongod import Mongod
from tests.browser.nginx import Nginx, find_nginx
from tests.support.gunicorn import ROOT, Gunicorn, wait_until

SCREENSHOTS = ROOT / "build" / "screenshots"
_FAINT_TEXTS = (Path(__file__).parent / "faint_texts.js").read_text()


class Screen(NamedTuple):
    """What a page is shown on."""

    dark: bool
    phone: bool

    def __str__(self) -> str:
        return f"{'dark' if self.dark else 'light'}-{'phone' if self.phone else 'desktop'}"


SCREENS = [Screen(dark, phone) for dark in (False, True) for phone in (False, True)]
every_screen = pytest.mark.parametrize("screen", SCREENS, ids=str)


class Browser:
    """Chromium, with what a test asks of it.

    Args:
        driver: Selenium's.
    """

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self._width = 0

    def open(self, url: str, *, dark: bool = False, phone: bool = False) -> None:
        """Go to ``url`` on a desktop or a phone, by day or by night."""
        self.color_scheme(dark=dark)
        self._width, height = (390, 844) if phone else (1280, 1000)
        size = {"width": self._width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(url)

    def color_scheme(self, *, dark: bool) -> None:
        """Let it be day or night, as the system tells the page."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what ``script`` returns in the page."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        """Return the text of the first element that matches, or none while there is none."""
        script = "return document.querySelector(arguments[0])?.innerText ?? ''"
        return str(self.run(script, selector))

    def click(self, selector: str) -> None:
        """Click the first element that matches."""
        self.run("document.querySelector(arguments[0]).click()", selector)

    def find(self, selector: str) -> WebElement:
        """Return the first element that matches, to type into it."""
        return self.driver.find_element("css selector", selector)

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the screen."""
        return max(0, int(self.run("return document.documentElement.scrollWidth")) - self._width)

    def faint_texts(self) -> dict[str, str]:
        """Return the visible texts whose contrast (WCAG 2, 1 to 21) is below 3."""
        found: dict[str, str] = self.run(_FAINT_TEXTS, 3)
        return found

    def scroll_to(self, selector: str) -> None:
        """Scroll until the first element that matches is in sight."""
        self.run("document.querySelector(arguments[0]).scrollIntoView()", selector)

    def assert_well_behaved(self, url: str) -> None:
        """Assert that the pages have sent requests to the host of ``url`` alone, and no complaints.

        Complaints are warnings and errors in the console.
        """
        assert [entry["message"] for entry in self.driver.get_log("browser")] == []
        assert self._hosts() == {urlsplit(url).netloc}

    def _hosts(self) -> set[str]:
        events = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        urls = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return {urlsplit(url).netloc for url in urls if url.startswith(("http", "ws"))}

    def keep(self, name: str) -> None:
        """Keep a picture of the page for people to look at."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(SCREENSHOTS / f"{name}.png"))


def _program(*names: str) -> str:
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    pytest.skip(f"no {names[0]} on PATH; Debian: apt-get install chromium chromium-driver")


@pytest.fixture
def open_browser() -> Iterator[Callable[[], Browser]]:
    """Open browsers; they close with the test."""
    binary = _program("chromium", "chromium-browser", "google-chrome")
    service = Service(_program("chromedriver", "chromium-driver"))
    drivers = []

    def start() -> Browser:
        options = Options()
        options.binary_location = binary
        for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
            options.add_argument(f"--{argument}")
        options.set_capability("goog:loggingPrefs", {"browser": "WARNING", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=service)
        drivers.append(driver)
        return Browser(driver)

    yield start
    for driver in drivers:
        driver.quit()


@pytest.fixture
def browser(open_browser: Callable[[], Browser]) -> Browser:
    """A browser."""
    return open_browser()


@pytest.fixture
def service(
    serve: Callable[..., Gunicorn], replica_set: Mongod, database_name: str, browser: Browser
) -> Gunicorn:
    """The service as in production; skipped where there is no browser."""
    gunicorn = serve(
        replica_set.uri,
        MONGODB_DB=database_name,
        PORTFOLIO_SERVICE_ENV="production",
        WEB_CONCURRENCY="2",
    )
    gunicorn.wait_ready()
    return gunicorn


@pytest.fixture
def nginx(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Nginx]:
    """An nginx that forwards ``/portfolio/`` to the service."""
    binary = find_nginx()
    if binary is None:
        pytest.skip("no nginx on PATH or in /usr/sbin; Debian: apt-get install nginx")
    service: Gunicorn = request.getfixturevalue("service")
    proxy = Nginx(binary, tmp_path / "nginx", service.url)
    try:
        proxy.wait_ready()
        yield proxy
    finally:
        proxy.stop()


class Operation:
    """An operation in Swagger UI.

    Args:
        browser: a browser that shows ``/docs``.
        method: its method, in upper case.
        path: its path, as in the document.
    """

    def __init__(self, browser: Browser, method: str, path: str) -> None:
        self._browser = browser
        block = wait_until(lambda: browser.run(_FIND_BLOCK, method, path), f"{method} {path}")
        self.selector = f"#{block}"

    def open(self) -> None:
        """Unfold it."""
        if not self._browser.text(f"{self.selector} .execute"):
            self._browser.click(f"{self.selector} .opblock-summary-control")
            wait_until(lambda: self._browser.text(f"{self.selector} .execute"), "it unfolds")

    def execute(self) -> int:
        """Press "Execute" and return the status that is shown then."""
        self.open()
        answer = f"{self.selector} .live-responses-table .response .response-col_status"
        if self._browser.text(answer):
            self._browser.click(f"{self.selector} .btn-clear")
            wait_until(lambda: not self._browser.text(answer), "the last answer goes")
        self._browser.click(f"{self.selector} .execute")
        return int(wait_until(lambda: self._browser.text(answer), "an answer is shown").split()[0])

    def value(self, parameter: str) -> str:
        """Return what the form has for ``parameter``."""
        script = "return document.querySelector(arguments[0]).value"
        return str(self._browser.run(script, self.input(parameter)))

    def input(self, parameter: str) -> str:
        """Return the selector of the input of ``parameter``."""
        return f'{self.selector} tr[data-param-name="{parameter}"] input'

    def body(self) -> Any:
        """Return the body in the form."""
        script = "return document.querySelector(arguments[0]).value"
        return json.loads(self._browser.run(script, f"{self.selector} textarea"))


_FIND_BLOCK = """
for (const block of document.querySelectorAll(".opblock")) {
  const text = selector => block.querySelector(selector).innerText.replace(/\\s|\\u200b/g, "")
  const [method, path] = arguments
  if (text(".opblock-summary-method") === method && text(".opblock-summary-path") === path)
    return block.id
}
"""
