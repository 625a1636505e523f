"""A real browser for tests: Debian's Chromium, driven by Selenium, opens pages from the disk and keeps what they ask the network for."""

import contextlib
import json
import os
import shutil
import time
from pathlib import Path

import axe_core_python
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

KEYS = Keys  # what can be typed besides letters
WIDE, NARROW = (1280, 900), (420, 900)
PATIENCE = 20  # seconds that a busy machine may need


@contextlib.contextmanager
def browser(downloads):
    """A browser that puts what it downloads into a folder; without one on this machine the tests are skipped."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver):
        reason = "no chromium and chromedriver here (apt-get install chromium-driver)"
        (pytest.fail if os.environ.get("MEMGRID_NEEDS_BROWSER") else pytest.skip)(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for word in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "force-device-scale-factor=1", "disable-background-networking"):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield Browser(chrome, Path(downloads))
    finally:
        chrome.quit()


class Browser:
    """One window."""

    def __init__(self, driver, downloads):
        self.driver, self.downloads = driver, downloads
        driver.set_script_timeout(60)
        self.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        self.command("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
        self.size(*WIDE)

    def command(self, name, **arguments):
        """Ask the browser itself (Chrome's DevTools protocol)."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def size(self, width, height):
        """The size of the window, in CSS pixels."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def scheme(self, name):
        """What the system prefers: light or dark."""
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def open(self, path, fragment=""):
        """Load a page anew from the disk, forgetting what was logged before; a fragment begins with #."""
        self.driver.get("about:blank")
        self.logs("performance"), self.logs("browser")
        self.driver.get(Path(path).resolve().as_uri() + fragment)
        return self

    def run(self, script, *arguments):
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def all(self, selector):
        """The elements that a CSS selector finds."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        """The first of them."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def click(self, selector):
        """Scroll to the first element that a selector finds, and click it as a hand does."""
        found = self.one(selector)
        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", found)
        found.click()
        return found

    def press(self, *keys):
        """Type into whatever has the focus."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def texts(self, selector):
        """What is to be read in all elements that a selector finds."""
        return self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())", selector)

    def until(self, holds):
        """What a function returns as soon as it is true."""
        end = time.monotonic() + PATIENCE
        while not (found := holds()):
            assert time.monotonic() < end, "it never came"
            time.sleep(0.02)
        return found

    def downloaded(self, name):
        """The text of a file that was downloaded."""
        path = self.downloads / name
        self.until(path.is_file)
        return path.read_text(encoding="utf-8")

    def logs(self, kind):
        """What the browser logged since it was asked last."""
        return self.driver.get_log(kind)

    def requests(self):
        """The addresses that the page asked for since it was opened, but for itself and what lies within it."""
        events = [json.loads(entry["message"])["message"] for entry in self.logs("performance")]
        asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        own = self.driver.current_url.split("#")[0]
        return [url for url in asked if url.split("#")[0] != own and not url.startswith(("data:", "blob:", "about:"))]

    def complaints(self):
        """What its scripts did wrong since it was opened."""
        return [entry["message"] for entry in self.logs("browser") if entry["level"] == "SEVERE"]

    def violations(self, within="body"):
        """What axe-core finds that keeps people out, in all that can be unfolded: rule, and the first elements."""
        self.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        self.run((Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "requestAnimationFrame(() => setTimeout(() => axe.run(arguments[0]).then(arguments[1]), 100))", within
        )
        return {rule["id"]: [(node["html"], node["failureSummary"]) for node in rule["nodes"][:3]] for rule in found["violations"]}

    def cut_off(self):
        """What reaches over the right edge of the window and cannot be scrolled to within an element of its own; empty if all is well."""
        return self.run(
            """
            const wide = document.documentElement.clientWidth;
            const scrolls = (e) => e && e !== document.body
              && (["auto", "scroll"].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
            const reach = [...document.body.querySelectorAll("*")].filter((e) => e.checkVisibility()
              && !scrolls(e.parentElement) && e.getBoundingClientRect().right > wide + 0.5);
            if (document.scrollingElement.scrollWidth > innerWidth) reach.push(document.scrollingElement);
            return reach.map((e) => e.outerHTML.slice(0, 120));
            """
        )

    def picture(self, path):
        """A screenshot of the window."""
        self.driver.save_screenshot(str(path))
