"""What mkdocs adds to the pages of this folder: the repository's own texts, and the references that the code writes.

CONTRIBUTING, CHANGELOG and the READMEs of experiments/ become pages with their pictures; every verb of the command and every
room of the package gets a page of its own.
"""

import ast
import html
import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
_SOURCE = ROOT / "src"
_TEXTS = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
_TESTED = "test-all.md"  # written by `make test-all`
_SHOWN = {".md", ".png", ".svg", ".webp", ".csv"}  # of experiments/: what their READMEs link to
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)|(!)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in this folder."""
    for uri, name in _TEXTS.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / name)))
    for path in sorted((ROOT / "experiments").rglob("*")):
        inside = path.relative_to(ROOT)
        if path.suffix in _SHOWN and not {"records", "examples"} & {*inside.parts}:
            files.append(File.generated(config, inside.as_posix(), abs_src_path=str(path)))
    pages = {**command_pages(), **api_pages(), **gallery_pages()}
    if not (ROOT / "docs" / _TESTED).is_file():
        pages[_TESTED] = "# The last full test\n\n`make test-all` has not written its result yet.\n"
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs names them
    """Turn links that are right in the repository into links of the site; what has no page there keeps its words alone."""
    if page.file.generated_by and not page.file.abs_src_path:
        return markdown
    source, known = Path(page.file.abs_src_path).resolve(), {file.src_uri for file in files}
    here = PurePosixPath(page.file.src_uri).parent

    def mended(link: re.Match[str]) -> str:
        words, target, picture = (link[1], link[2], "") if link[2] else (link[4], link[5], "!")
        words = _LINK.sub(mended, words)  # a picture that is a link
        file, mark, anchor = target.partition("#")
        if not file or "://" in target or target.startswith("mailto:"):
            return link[0]
        place = Path(os.path.normpath(source.parent / file))
        uri, section = _page_of(place)
        if uri in known:
            return f"{picture}[{words}]({os.path.relpath(uri, here)}{mark + anchor or section})"
        return words if place.exists() and place.is_relative_to(ROOT) else link[0]

    return _LINK.sub(mended, markdown)


def _page_of(place: Path) -> tuple[str, str]:
    """The page or picture that a file of the repository becomes, and the section in it."""
    if not place.is_relative_to(ROOT):
        return "", ""
    inside = place.relative_to(ROOT)
    if _SOURCE in place.parents and place.suffix == ".py":
        module = ".".join(place.relative_to(_SOURCE).with_suffix("").parts).removesuffix(".__init__")
        return _api_page(module), f"#{module}"
    named = {"README.md": "index.md", **{name: uri for uri, name in _TEXTS.items()}}
    return named.get(inside.as_posix(), inside.as_posix().removeprefix("docs/")), ""


def command_pages() -> dict[str, str]:
    """The command's reference: its overview, and the help of each verb as the command prints it."""
    sys.path.insert(0, str(_SOURCE))
    from exfuse.cli.help import options_of, overview, verb_help
    from exfuse.cli.verbs import VERBS

    made_from = "This page is made from the table of verbs and from the comments of the config files."
    parts = ["# The command", made_from, _block(overview())]
    for verb in VERBS:
        parts += [f"## exfuse {verb.name}", f"{verb.does[0].upper()}{verb.does[1:]}.", _block(verb_help(verb))]
    for group, words in {"ablation": "Named variants", "architecture": "Rivals", "study": "Studies"}.items():
        rows = [f"| `{name}` | {html.escape(meaning).replace('|', '&#124;')} |" for name, meaning in options_of(group).items()]
        parts += [f"## {words}: +{group}=NAME", "\n".join(["| name | what |", "|---|---|", *rows])]
    return {"reference/command.md": "\n\n".join(parts) + "\n"}


def gallery_pages() -> dict[str, str]:
    """A card for each published study, and its page as `exfuse report page` makes it, without photographs.

    The environment's ``EXFUSE_GALLERY`` may name the studies whose pages are made, parted by commas; a page takes seconds.
    """
    sys.path.insert(0, str(_SOURCE))
    from exfuse.analysis.rendering import Rendering
    from exfuse.analysis.texts import findings
    from exfuse.reports.page.data import PageData
    from exfuse.reports.page.gathering import find_examples
    from exfuse.reports.page.page import render_page
    from exfuse.store.study_file import find_studies
    from exfuse.store.study_reading import load_study

    wanted = os.environ.get("EXFUSE_GALLERY", "").split(",")
    pages, cards = {}, []
    for folder in find_studies([ROOT / "experiments"]):
        study, name = load_study(folder), folder.name
        rendering = Rendering(study)
        heading = html.escape(f"{study.title} ({study.done()[0][2].data})" if study.done() else study.title)
        card = [f"## {heading}", html.escape(study.question)]
        if wanted == [""] or name in wanted:
            data = PageData(rendering, find_examples(study, folder), {}, _MOST_BYTES)
            pages[f"reference/gallery/{name}.html"] = render_page(data)
            card[0] = f"## [{heading}](gallery/{name}.html)"
            card.append(f"[![Scores and differences of {heading}](../experiments/{name}/ladder.png)](gallery/{name}.html)")
        else:
            card.append(f"![Scores and differences of {heading}](../experiments/{name}/ladder.png)")
        cards.append("\n\n".join([*card, "\n".join(findings(study, rendering.compared))]))
    head = (
        "# Published studies\n\nEach picture leads to the study's page: table, intervals, curves, classes, costs. Everything "
        "is made from the records in `experiments/`; [the answer sheet](../experiments/README.md) says what is common to all."
    )
    return {"reference/gallery.md": "\n\n".join([head, *cards]) + "\n", **pages}


_MOST_BYTES = 15_000_000  # of a study's page


def _block(text: str) -> str:
    return f"```text\n{text}\n```"


def api_pages() -> dict[str, str]:
    """By address, a page for each room of the package, and the list of them."""
    rooms: dict[str, list[str]] = {}
    for path in sorted((_SOURCE / "exfuse").rglob("*.py")):
        module = ".".join(path.relative_to(_SOURCE).with_suffix("").parts).removesuffix(".__init__")
        if not module.endswith("__main__") and "conf" not in path.relative_to(_SOURCE / "exfuse").parts[:1]:
            rooms.setdefault(_api_page(module), []).append(module)
    pages = {}
    for uri, modules in rooms.items():
        documented = [module for module in modules if _says_something(module)]
        if documented:
            title = _room(modules[0])
            pages[uri] = f"# {title}\n\n" + "\n\n".join(f"::: {module}" for module in documented) + "\n"
    entries = [f"| [{_room_of(uri)}](api/{PurePosixPath(uri).name}) | {_first_line(_room_of(uri))} |" for uri in pages]
    table = "| room | holds |\n|---|---|\n" + "\n".join(entries)
    pages["reference/api.md"] = (
        "# The Python interface's reference\n\nEach page is made from the docstrings of one room of the package; rooms are "
        f"listed by name. [Python](../python.md) says what most people import.\n\n{table}\n"
    )
    return pages


def _api_page(module: str) -> str:
    return f"reference/api/{_room(module).replace('.', '-')}.md"


def _room(module: str) -> str:
    """``exfuse.data`` for ``exfuse.data.cache``; modules that lie in no room share the ground floor's page."""
    parts = module.split(".")
    return ".".join(parts[:2]) if len(parts) > 2 or (_SOURCE / Path(*parts) / "__init__.py").exists() else "exfuse"


def _room_of(uri: str) -> str:
    return PurePosixPath(uri).stem.replace("-", ".")


def _tree(module: str) -> ast.Module:
    path = _SOURCE / Path(*module.split("."))
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))


def _says_something(module: str) -> bool:
    return bool(_tree(module).body)


def _first_line(module: str) -> str:
    return (ast.get_docstring(_tree(module)) or "").partition("\n")[0]
