"""What `exfuse report page` does: gather what the runs' folders still hold, then write one page a study."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from rich.console import Console
from rich.markup import escape

from exfuse.analysis.rendering import Rendering
from exfuse.errors import ConfigError, UserError, complain
from exfuse.files import write_atomically
from exfuse.limits import Positive, PositiveFloat
from exfuse.reports.page.data import PageData
from exfuse.reports.page.gathering import Wish, examples_folder, find_examples, gather_examples, gather_histories
from exfuse.reports.page.page import render_page
from exfuse.store.description import Option, Paths
from exfuse.store.study import Study, find_studies, load_study


class _Study(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    folder: str


class Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What conf/report_page.yaml asks for."""

    study: _Study
    output: str
    runs: str | None
    examples: Literal["auto", "publish", "none"]
    images: Positive
    long_side: Annotated[int, msgspec.Meta(ge=16)]
    megabytes: PositiveFloat
    device: str
    paths: Paths
    data: Option | None = None


def make(asked: Page) -> None:
    """Write the pages that are asked for.

    Raises:
        ConfigError: if a key has no usable value.
        UserError: if a study cannot be read; those before and after it are written all the same.
    """
    folders = find_studies([Path(asked.study.folder)])
    output = Path(asked.output)
    if output.suffix == ".html" and len(folders) > 1:
        raise ConfigError(f"output={output} is one file, but {asked.study.folder} holds {len(folders)} studies: give a folder.")
    console = Console()
    failed = []
    for folder in folders:
        path = output if output.suffix == ".html" else output / f"{folder.resolve().name}.html"
        try:
            _make_one(folder, path, asked, console)
        except UserError as error:
            if len(folders) == 1:
                raise
            complain(f"{folder}: {error}")
            failed.append(folder.name)
    if failed:
        raise UserError(f"{len(failed)} of {len(folders)} studies have no page: {', '.join(failed)}.")


def _make_one(folder: Path, path: Path, asked: Page, console: Console) -> None:
    study = load_study(folder)
    beside = path.with_suffix("")  # what may not be published lies there
    left_out: dict[str, str] = {}
    if asked.examples != "none":
        left_out = _gather(study, beside, asked, console)
    data = PageData(Rendering(study), find_examples(study, beside), left_out, bound=int(asked.megabytes * 1e6))
    text = render_page(data)
    write_atomically(path, lambda scratch: scratch.write_bytes(text.encode()))
    console.print(f"{path}: {len(text.encode()) / 1e6:.1f} MB", soft_wrap=True, markup=False, highlight=False)


def _gather(study: Study, beside: Path, asked: Page, console: Console) -> dict[str, str]:
    runs = Path(asked.paths.runs if asked.runs is None else asked.runs)
    histories = gather_histories(study, runs)
    if histories:
        console.print(f"{study.folder}: training curves of {histories} runs, from {runs}", soft_wrap=True, highlight=False)
    wish = Wish(asked.images, asked.long_side, asked.device, asked.data)
    target = examples_folder(study, beside, asked.examples)
    left_out = gather_examples(study, runs, target, beside, wish)
    for key, reason in left_out.items():
        console.print(f"[yellow]No predictions of run {key}:[/] {escape(reason)}", soft_wrap=True, highlight=False)
    return left_out
