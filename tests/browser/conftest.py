"""A headless Chromium, where there is one; Debian: ``chromium`` and ``chromium-driver``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"


class Browser:
    """Chromium, with what a test asks of it.

    Args:
        driver: Selenium's.
    """

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str, *, dark: bool = False, phone: bool = False) -> None:
        """Go to ``url`` as a desktop or a phone, by day or by night."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        width, height = (390, 844) if phone else (1280, 1000)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(url)

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

    def complaints(self) -> list[str]:
        """Return what the page has written to the console as warnings and errors."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def hosts(self) -> set[str]:
        """Return the hosts, with their ports, that the page has sent requests to."""
        events = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        urls = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return {url.split("/")[2] for url in urls if url.startswith(("http:", "https:", "ws"))}

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
