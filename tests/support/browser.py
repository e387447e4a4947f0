"""A user of the viewer: headless Chromium on OHIF's pages.

Only the visible page is used: studies are found, opened and shown as a user does it, and an image is
checked by the pixels of a screenshot. The values of `data-cy` are OHIF's names for its own tests.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Request, sync_playwright
from playwright.sync_api import TimeoutError as NotThereError

from support.waiting import wait_until

Pixels = NDArray[np.uint8]

WITHOUT_GPU = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
PAGE_SECONDS = 60.0
"""For a page to appear: 20 MB of scripts, and WebGL drawn by two cores that sixteen containers share."""
TRIES = 4
NETWORK_CHANGED = "ERR_NETWORK_CHANGED"
"""The error of Chromium's requests when a network interface of the host comes or goes, as with containers."""


@contextmanager
def chromium(*, draws: bool = True) -> Iterator[Browser]:
    """Return Debian's Chromium; without it skip the test, except in CI. `draws`: the viewer needs WebGL."""
    executable = shutil.which("chromium")
    if executable is None:
        assert "CI" not in os.environ, "Chromium is missing: install chromium"
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=list(WITHOUT_GPU if draws else ("--disable-gpu",))
        )
        try:
            yield browser
        finally:
            browser.close()


def visit(browser: Browser, url: str, look: Callable[["Visit"], None]) -> None:
    """Open the viewer and run `look`; start again if the host's network changed meanwhile."""
    for last in (*[False] * (TRIES - 1), True):
        with browser.new_page(viewport={"width": 1400, "height": 900}) as page:
            here = Visit(page, url)
            try:
                look(here)
            except (NotThereError, AssertionError) as error:
                for failure in here.failures:
                    error.add_note(failure)
                if last or not any(NETWORK_CHANGED in failure for failure in here.failures):
                    raise
            else:
                return


class Visit:
    """One tab of the viewer: the actions of a user, and the errors behind the page."""

    def __init__(self, page: Page, url: str) -> None:
        self.failures: list[str] = []
        self.strangers: set[str] = set()
        self._page = page
        self._url = url
        page.set_default_timeout(PAGE_SECONDS * 1000)
        page.on("requestfailed", lambda request: self.failures.append(f"{request.url}: {request.failure}"))
        page.on("pageerror", lambda error: self.failures.append(str(error)))
        page.on("request", self._note)

    def _note(self, request: Request) -> None:
        own = (self._url, f"blob:{self._url}", "data:")
        if not request.url.startswith(own):
            self.strangers.add(request.url)

    def keep(self, path: Path) -> None:
        """Save a picture of the whole page."""
        self._page.screenshot(path=path)

    def find(self, study_instance_uid: str, patient_name: str) -> Locator:
        """Return the study's row in the study list, after a search for the patient."""
        self._page.goto(self._url)
        self._named("confirm-and-hide-button").click()
        self._named("input-patientName").fill(patient_name)
        row = self._named(f"studyRow-{study_instance_uid}")
        row.wait_for()
        self._page.wait_for_function(
            "[...document.querySelectorAll('[data-cy^=studyRow-]')].length === 1"
        )  # the answer to the search, not the list before it
        return row

    def open(self, row: Locator, study_instance_uid: str) -> None:
        """Open the study in the basic viewer."""
        row.click()
        self._named(f"mode-viewer-{study_instance_uid}").click()
        self._named("study-browser-thumbnail").first.wait_for()

    def show(self, series_description: str) -> Pixels:
        """Return the viewport of the first such series, without its text, once it shows an image."""
        self._named("study-browser-thumbnail").filter(has_text=series_description).first.dblclick()
        self._named("viewport-overlay-top-left").filter(has_text=series_description).wait_for()
        [picture] = wait_until(self._pictures, PAGE_SECONDS, f"a picture of {series_description}")
        return picture

    def _pictures(self) -> list[Pixels]:
        canvas = self._named("viewport-grid").locator("canvas").first
        hide = "[data-cy^=viewport-overlay] { visibility: hidden }"
        pixels = np.asarray(Image.open(BytesIO(canvas.screenshot(style=hide))).convert("RGB"))
        return [pixels] if is_picture(pixels) else []

    def _named(self, name: str) -> Locator:
        return self._page.locator(f'[data-cy="{name}"]')


def is_picture(pixels: Pixels) -> bool:
    """Tell whether the middle is an image, not a message: many colours, none on nearly all pixels."""
    _, counts = np.unique(middle(pixels).reshape(-1, 3), axis=0, return_counts=True)
    return len(counts) >= 32 and bool(counts.max() < 0.9 * counts.sum())


def coloured(pixels: Pixels) -> int:
    """Return how many pixels are neither grey nor pale, in a viewport without border and buttons."""
    width = pixels.shape[1]
    inner = pixels[8:-8, width // 8 : -width // 8].astype(np.int16)
    return int(np.count_nonzero(inner.max(axis=2) - inner.min(axis=2) > 100))


def middle(pixels: Pixels) -> Pixels:
    """Return the middle half in both directions."""
    height, width = pixels.shape[:2]
    return pixels[height // 4 : -height // 4, width // 4 : -width // 4]
