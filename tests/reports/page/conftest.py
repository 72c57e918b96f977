"""A made-up study with everything a page can show, and a real headless Chromium to open it in."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from exfuse.analysis.rendering import Rendering
from exfuse.reports.page.data import PageData
from exfuse.reports.page.gathering import find_examples
from exfuse.reports.page.page import render_page
from exfuse.store.history import merge_logs, write_history
from exfuse.store.study_reading import load_study
from tests.analysis.synthetic import StudyBuilder
from tests.pace import patience
from tests.reports.examples import add_examples, add_history

_PATIENCE = patience(120_000)  # milliseconds: on a busy machine a chart takes its time
expect.set_options(timeout=_PATIENCE)


def make_study(folder: Path) -> Path:
    """Three rows, three seeds, one run failed; curves of all, examples of the finished ones."""
    builder = StudyBuilder(folder, factors=["seb"])
    rows = [
        (0.60, builder.row("baseline", 0.6)),
        (0.70, builder.row("seb", 0.7, options={"seb": "product"}, on="baseline", status={2: "failed"})),
    ]
    builder.finish()
    finished = []
    for quality, runs in rows:
        for run in runs:
            if run.record().status == "done":
                add_history(run, quality, starts=2)
                write_history(run.path / "history.csv", merge_logs(run.path))
                shutil.rmtree(run.path / "logs")
                finished.append(run)
    add_examples(folder, finished)
    return folder


def data_of(folder: Path, bound: int = 15_000_000) -> PageData:
    study = load_study(folder)
    return PageData(Rendering(study), find_examples(study, folder), {}, bound)


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No test may change it."""
    return make_study(tmp_path_factory.mktemp("page") / "study")


@pytest.fixture(scope="session")
def page_file(study_folder: Path) -> Path:
    path = study_folder.parent / "page.html"
    path.write_text(render_page(data_of(study_folder)))
    return path


_CONTROLS = "[...document.querySelectorAll('select, input')]"
_STATE = f"{_CONTROLS}.map(one => one.type == 'checkbox' ? one.checked : one.value)"
_RESTORE = f"""state => {_CONTROLS}.forEach((one, place) => {{
    if (one.type == 'checkbox' && one.checked != state[place]) one.click();
    if (one.type != 'checkbox' && one.value != state[place]) {{
        one.value = state[place];
        one.dispatchEvent(new Event('change', {{bubbles: true}}));
    }}
}})"""


@pytest.fixture(scope="module")
def opened(chromium: Browser, page_file: Path) -> Iterator[tuple[Page, list[object]]]:
    """The study's page, drawn, as it is opened first, and the state of its controls; loading its charts takes seconds."""
    complaints: list[str] = []
    with chromium.new_context(viewport={"width": 1280, "height": 844}) as context:
        context.set_default_timeout(_PATIENCE)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(page_file.as_uri())
        page.wait_for_selector("html[data-charts=drawn]", state="attached")
        page.wait_for_selector("#cards[data-image]")
        yield page, page.evaluate(_STATE)
    assert complaints == []


@pytest.fixture
def page(opened: tuple[Page, list[object]]) -> Page:
    """The study's page with every control as it was at first, for tests that neither reload it nor begin at its top."""
    opened[0].evaluate(_RESTORE, opened[1])
    return opened[0]


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Open a file as ``visit(path, width=390, dark=True)``; at the end nothing may have failed or asked for the network."""
    complaints: list[str] = []
    contexts = []

    def opened(path: Path, width: int = 1280, dark: bool = False, **settings: object) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 844}, color_scheme="dark" if dark else "light", **settings
        )
        context.set_default_timeout(_PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda asked: complaints.append(asked.url) if not asked.url.startswith(("data:", path.as_uri())) else None,
        )
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
