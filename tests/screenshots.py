"""A headless Chromium of the system, for tests of pages and pictures of one:  python -m tests.screenshots FOLDER"""

import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from exfuse.analysis.rendering import Rendering
from exfuse.errors import UserError
from exfuse.files import write_atomically
from exfuse.reports.page.data import PageData
from exfuse.reports.page.gathering import find_examples
from exfuse.reports.page.page import render_page
from exfuse.store.study_reading import load_study

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# No sandbox: in a container and as root it cannot start, and only pages of this project are opened.
_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb", "--hide-scrollbars")


def find_chromium() -> str | None:
    """Path of the system's Chromium or Chrome; None if there is none."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


@contextmanager
def headless_chromium() -> Iterator[Browser]:
    """A running browser.

    Raises:
        UserError: if there is none.
    """
    executable = find_chromium()
    if executable is None:
        raise UserError(f"No Chromium: looked for {', '.join(_NAMES)}. Install one: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


_WIDTH, _HEIGHT, _MARGIN = 1280, 900, 24  # of the window, and around a section, in pixels; chosen
_MOVING = 800  # pixels across the moving picture
_WAIT = 60_000  # milliseconds, for a slow machine


def take_screenshots(folder: Path) -> None:
    """Write the head of a study's page, the predictions of the image that differs most, and a moving picture of their browser.

    That is ``page.png``, ``browser.png`` and ``browser.webp`` in the study's folder.

    Raises:
        UserError: if the study cannot be read, has no examples, or there is no Chromium.
    """
    study = load_study(folder)
    examples = find_examples(study, folder)
    if examples is None:
        raise UserError(
            f"{folder} has no examples, so there are no predictions to show. Gather them: "
            f"exfuse report page {folder} runs=outputs/runs examples=publish"
        )
    text = render_page(PageData(Rendering(study), examples, {}, bound=15_000_000))
    with tempfile.TemporaryDirectory() as scratch, headless_chromium() as browser:
        path = Path(scratch) / "page.html"
        path.write_text(text)
        page = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT}, color_scheme="light")
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-charts=drawn]", state="attached", timeout=_WAIT)
        page.wait_for_selector("#cards[data-image]", timeout=_WAIT)
        head, predictions = folder / "page.png", folder / "browser.png"
        write_atomically(head, lambda target: page.screenshot(path=target))
        _crop(page, "#browser", predictions)
        moving = _record(page, folder / "browser.webp")
    print(head, predictions, moving, sep="\n")


def _record(page: Page, path: Path) -> Path:
    """A moving picture of the browser of predictions: image after image, error maps, masks over the image, another sort."""
    page.add_style_tag(content=".strip { overflow: hidden !important; } #browser > h2, #browser .variants { display: none; }")
    page.uncheck("#errors")
    shots = [(_shoot(page), 1800)]
    page.check("#errors")
    shots.append((_shoot(page), 2200))
    for _ in range(2):
        page.click("#next")
        shots.append((_shoot(page), 1800))
    page.check("input[name=view][value=overlay]")
    shots.append((_shoot(page), 1800))
    page.select_option("#sort", "hard")
    page.uncheck("#errors")
    shots.append((_shoot(page), 1800))
    size = (_MOVING, round(_MOVING * min(image.height for image, _ in shots) / shots[0][0].width))
    frames = [image.crop((0, 0, image.width, size[1] * image.width // _MOVING)).resize(size) for image, _ in shots]
    times = [time for _, time in shots]
    first, *others = frames

    def write(target: Path) -> None:
        first.save(target, "WEBP", save_all=True, append_images=others, duration=times, loop=0, quality=60, method=6)

    write_atomically(path, write)
    return path


def _shoot(page: Page) -> Image.Image:
    page.wait_for_timeout(400)  # until the canvases are drawn
    return Image.open(io.BytesIO(page.locator("#browser").screenshot())).convert("RGB")


def _crop(page: Page, selector: str, path: Path) -> None:
    """A section with a margin, without the bar that floats above it."""
    page.add_style_tag(content=".bar { position: static !important; } .caption { display: none; }")
    box = page.locator(selector).bounding_box()
    assert box is not None
    clip = {
        "x": max(0, box["x"] - _MARGIN),
        "y": box["y"],
        "width": min(_WIDTH, box["width"] + 2 * _MARGIN),
        "height": box["height"],
    }
    write_atomically(path, lambda target: page.screenshot(path=target, clip=clip, full_page=True))  # type: ignore[arg-type]


if __name__ == "__main__":
    take_screenshots(Path(sys.argv[1]))
