"""What `exfuse report page` does: gather what the runs' folders still hold, then write one page a study."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta
from rich.filesize import decimal

from exfuse.analysis.rendering import Rendering
from exfuse.errors import ConfigError, UserError, complain
from exfuse.files import outputs, seen_from, write_text
from exfuse.limits import Device, Positive, PositiveFloat
from exfuse.reports.page.data import PageData
from exfuse.reports.page.gathering import Wish, examples_folder, find_examples, gather_examples, gather_histories
from exfuse.reports.page.page import render_page
from exfuse.store.description import Option
from exfuse.store.study import Study
from exfuse.store.study_file import find_studies
from exfuse.store.study_reading import load_study
from exfuse.terminal import Console


def make(
    study_folder: str,
    output: str,
    runs: str | None,
    paths_runs: str,
    examples: Literal["auto", "publish", "none"],
    images: Positive,
    long_side: Annotated[int, Meta(ge=16)],
    megabytes: PositiveFloat,
    device: Device,
    data: Option | None = None,
) -> None:
    """Write the page of each study.

    Args:
        study_folder: of a study, or of several.
        output: a folder, or one file.
        runs, paths_runs: the folder of the runs; the latter where the former is None.
        examples: where predictions on images are gathered, if they are.
        images, long_side, device, data: see `Wish`.
        megabytes: that a page may have.

    Raises:
        ConfigError: if a key has no usable value.
        UserError: if a study cannot be read; those before and after it are written all the same.
    """
    folders, target = find_studies([Path(study_folder)]), Path(output)
    if target.suffix == ".html" and len(folders) > 1:
        raise ConfigError(f"output={output} is one file, but {study_folder} holds {len(folders)} studies: give a folder.")
    wish = Wish(images, long_side, device, data)
    gathered = None if examples == "none" else (Path(runs or paths_runs), examples, wish)
    console = Console()
    failed = []
    for folder in folders:
        path = target if target.suffix == ".html" else target / f"{folder.resolve().name}.html"
        try:
            _make_one(folder, path, gathered, megabytes, console)
        except UserError as error:
            if len(folders) == 1:
                raise
            complain(f"{folder}: {error}")
            failed.append(folder.name)
    if failed:
        raise UserError(f"{len(failed)} of {len(folders)} studies have no page: {', '.join(failed)}.")


def _make_one(folder: Path, path: Path, gathered: tuple[Path, str, Wish] | None, megabytes: float, console: Console) -> None:
    study = load_study(folder)
    beside = path.with_suffix("")  # what may not be published lies there
    with outputs([path], of=[f"page of study {seen_from(path, study.folder)}"]):
        left_out = _gather(study, beside, *gathered, console) if gathered else {}
        data = PageData(Rendering(study), find_examples(study, beside), left_out, bound=int(megabytes * 1e6))
        text = render_page(data)
        write_text(path, text)
    console.print(f"{path}: {decimal(len(text.encode()))}", soft_wrap=True, highlight=False)


def _gather(study: Study, beside: Path, runs: Path, examples: str, wish: Wish, console: Console) -> dict[str, str]:
    histories = gather_histories(study, runs)
    if histories:
        console.print(f"{study.folder}: training curves of {histories} runs, from {runs}", soft_wrap=True, highlight=False)
    target = examples_folder(study, beside, examples)
    left_out = gather_examples(study, runs, target, beside, wish)
    for key, reason in left_out.items():
        console.print(f"No predictions of run {key}: {reason}", soft_wrap=True, highlight=False)
    return left_out
