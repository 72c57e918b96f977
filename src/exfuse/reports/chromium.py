"""The seam to Playwright: a headless Chromium of the system, for screenshots and for tests of pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from exfuse.errors import UserError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# No sandbox: in a container and as root it cannot start, and only pages of this project are opened.
_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb", "--hide-scrollbars")


def find_chromium() -> str | None:
    """Path of the system's Chromium or Chrome; None if there is none."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


@contextmanager
def headless_chromium() -> Iterator["Browser"]:
    """A running browser.

    Raises:
        UserError: if Chromium or Playwright is missing.
    """
    executable = find_chromium()
    if executable is None:
        raise UserError(f"No Chromium: looked for {', '.join(_NAMES)}. Install one: apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise UserError("Playwright is not installed: make setup, or pip install -e '.[dev]'.") from error
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
