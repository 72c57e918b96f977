"""What `exfuse report page` does: gather what the runs' folders still hold, then write one page a study."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape

from exfuse.analysis.rendering import Rendering
from exfuse.errors import ConfigError, UserError, complain
from exfuse.files import write_atomically
from exfuse.reports.page.data import PageData
from exfuse.reports.page.gathering import Wish, examples_folder, find_examples, gather_examples, gather_histories
from exfuse.reports.page.page import render_page
from exfuse.store.study import Study, find_studies, load_study

_WORDS = ("auto", "publish", "none")


def make(config: DictConfig) -> None:
    """Write the pages that ``config`` (conf/report_page.yaml) asks for.

    Raises:
        ConfigError: if a key has no usable value.
        UserError: if a study cannot be read; those before and after it are written all the same.
    """
    if OmegaConf.is_missing(config.study, "folder"):
        raise ConfigError("study is not set: add study=FOLDER with a study's folder, or a folder of studies.")
    if config.examples not in _WORDS:
        raise ConfigError(f"examples={config.examples}: expected {', '.join(_WORDS)}.")
    if config.images < 1 or config.long_side < 16:
        raise ConfigError(f"images={config.images} long_side={config.long_side}: expected at least 1 image of 16 pixels.")
    folders = find_studies([Path(config.study.folder)])
    output = Path(config.output)
    if output.suffix == ".html" and len(folders) > 1:
        raise ConfigError(
            f"output={output} is one file, but {config.study.folder} holds {len(folders)} studies: give a folder."
        )
    console = Console()
    failed = []
    for folder in folders:
        path = output if output.suffix == ".html" else output / f"{folder.resolve().name}.html"
        try:
            _make_one(folder, path, config, console)
        except UserError as error:
            if len(folders) == 1:
                raise
            complain(f"{folder}: {error}")
            failed.append(folder.name)
    if failed:
        raise UserError(f"{len(failed)} of {len(folders)} studies have no page: {', '.join(failed)}.")


def _make_one(folder: Path, path: Path, config: DictConfig, console: Console) -> None:
    study = load_study(folder)
    beside = path.with_suffix("")  # what may not be published lies there
    left_out: dict[str, str] = {}
    if config.examples != "none":
        left_out = _gather(study, beside, config, console)
    data = PageData(Rendering(study), find_examples(study, beside), left_out, bound=int(config.megabytes * 1e6))
    text = render_page(data)
    write_atomically(path, lambda scratch: scratch.write_bytes(text.encode()))
    console.print(f"{path}: {len(text.encode()) / 1e6:.1f} MB", soft_wrap=True, markup=False, highlight=False)


def _gather(study: Study, beside: Path, config: DictConfig, console: Console) -> dict[str, str]:
    runs = Path(config.paths.runs if config.runs is None else config.runs)
    histories = gather_histories(study, runs)
    if histories:
        console.print(f"{study.folder}: training curves of {histories} runs, from {runs}", soft_wrap=True, highlight=False)
    data: Any = config.get("data")
    wish = Wish(config.images, config.long_side, config.device, data)
    target = examples_folder(study, beside, config.examples)
    left_out = gather_examples(study, runs, target, beside, wish)
    for key, reason in left_out.items():
        console.print(f"[yellow]No predictions of run {key}:[/] {escape(reason)}", soft_wrap=True, highlight=False)
    return left_out
