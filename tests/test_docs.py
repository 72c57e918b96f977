"""The documentation builds strictly, fetches nothing, and prints no command or link that does not exist."""

import itertools
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser

from exfuse.store.study_file import find_studies
from tests.conftest import REPOSITORY
from tests.sharing import amount, make_once

_STUDY = "table3_scenes"  # whose page the tests build

TEXTS = sorted(
    [
        *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(REPOSITORY / "docs").rglob("*.md"),
        *(REPOSITORY / "experiments").rglob("README.md"),
    ]
)


class _Fetched(HTMLParser):
    """Addresses that a browser fetches to show a page: scripts, styles, fonts, pictures; links are not among them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "link" and named.get("rel") in ("canonical", "prev", "next"):
            return
        self.found += [named[name] or "" for name in ("src", "href") if name in named and tag != "a"]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="the documentation's extra is absent: pip install -e '.[docs]'")
    settings = {"NO_MKDOCS_2_WARNING": "1", "EXFUSE_GALLERY": _STUDY}

    def build(folder: Path) -> None:
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
        done = subprocess.run(command, cwd=REPOSITORY, env=os.environ | settings, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    return make_once(tmp_path_factory, "site", build)


def test_the_site_builds_strictly_and_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert {"index.html", "extend.html", "changelog.html", "reference/api.html", "experiments/index.html"} <= {
        page.relative_to(site).as_posix() for page in pages
    }
    for page in pages:
        parser = _Fetched()
        parser.feed(page.read_text())
        assert not [address for address in parser.found if re.match(r"(https?:)?//", address)], page
        if page.name != "404.html":  # which is shown at any depth
            places = [page.parent / re.sub(r"[?#].*", "", address) for address in parser.found if ":" not in address]
            assert not [place for place in places if not place.exists()], page


def test_the_gallery_shows_every_published_study(site: Path) -> None:
    text = (site / "reference" / "gallery.html").read_text()
    for study in find_studies([REPOSITORY / "experiments"]):
        assert f'src="../experiments/{study.name}/ladder.png"' in text
        assert (site / "experiments" / study.name / "ladder.png").is_file()
    assert f'href="gallery/{_STUDY}.html"' in text
    assert "What was found" in (site / "reference" / "gallery" / f"{_STUDY}.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("dark", "width"), amount([(True, 390)], list(itertools.product((False, True), (1280, 390)))))
def test_nothing_keeps_those_out_who_do_not_see_well(site: Path, chromium: Browser, dark: bool, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed").Axe()
    for path in ("gallery.html", f"gallery/{_STUDY}.html"):
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
        page.goto((site / "reference" / path).as_uri())
        page.wait_for_load_state("load")
        found = axe.run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], "preload": False})
        told = [(one["id"], [node["html"][:200] for node in one["nodes"][:4]]) for one in found.response["violations"]]
        assert told == [], (path, width)
        page.close()


def test_the_reference_names_every_public_technique(site: Path) -> None:
    text = (site / "reference" / "api" / "exfuse-techniques.html").read_text()
    for name in ("AdjacentPrediction", "ProductEmbedding", "SemanticBranches", "SubpixelConvolution", "rearranged"):
        assert f"exfuse.techniques.{name}" in text or f".{name}" in text


def test_the_readme_is_short_and_says_what_was_not_done() -> None:
    text = (REPOSITORY / "README.md").read_text()
    assert len(text.encode()) <= 6000
    assert "Nobody has run the paper's protocol on the whole data" in " ".join(text.replace("*", "").split())


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_links_into_the_repository_lead_somewhere(text: Path) -> None:
    prose = re.sub(r"```.*?```", "", text.read_text(), flags=re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"", prose)
    for target in (first or second for first, second in targets):
        if "://" in target or target.startswith("#"):
            continue
        place = text.parent / target.partition("#")[0]
        generated = (REPOSITORY / "docs" / "reference") in place.resolve().parents
        assert generated or place.exists(), target


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_files_that_a_text_names_are_there(text: Path) -> None:
    if text.name in ("CHANGELOG.md", "own_project.md"):
        return  # the one names what is gone, too, the other what its reader writes
    named = re.findall(r"`((?:src|conf|tests|experiments|notebooks)/[\w./]+|\w+/\w+\.py)`", text.read_text())
    for name in named:
        if not re.search(r"NAME|OPTION|KEY|VERB", name):
            assert any((folder / name).exists() for folder in (REPOSITORY, REPOSITORY / "src" / "exfuse")), name


def test_the_python_page_uses_techniques_in_another_network() -> None:
    pytest.importorskip("segmentation_models_pytorch", reason="the other network's package is absent")
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs" / "python.md").read_text(), flags=re.S)
    for block in blocks[1:]:  # the first needs a run
        exec(block, names)
    assert names["scores"].shape == (1, 21, 64, 64)  # type: ignore[attr-defined]
    assert [each.shape for each in names["embedded"]] == [each.shape for each in names["levels"]]  # type: ignore[attr-defined]


def test_the_citation_has_what_readers_of_it_need() -> None:
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert ["ExFuse" in cited["references"][0]["title"], len(cited["references"])] == [True, 2]
