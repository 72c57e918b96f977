"""A run's model as a folder for Hugging Face's Hub, and its way there if somebody says so; the only file that writes to it."""

from pathlib import Path

import torch
from huggingface_hub import EvalResult, HfApi, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id
from msgspec.structs import replace
from safetensors.torch import save_file

from exfuse.analysis.formats.markdown import escape, table_lines
from exfuse.errors import UserError
from exfuse.files import check_folder, write_folder
from exfuse.runs.asked import finished
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.store.description import to_plain
from exfuse.store.numbers_version import NUMBERS_VERSION
from exfuse.store.published import CARD, WEIGHTS, Published, without_places
from exfuse.store.record import Record, uncommitted_text
from exfuse.terminal import Console


def publish(run: str, name: str, licence: str, push: bool, output: str | None) -> Path:
    """Write a run's model as a folder of the Hub's form and return its path; push it if asked.

    Args:
        run: the folder of a finished run.
        name: of the model at the Hub, ``OWNER/NAME``.
        licence: of the weights, in the Hub's words, such as ``cc-by-4.0``.
        push: whether to create the model at the Hub and upload the folder.
        output: folder; None for ``export/NAME`` in the run's folder.

    Raises:
        UserError: if the run is missing, broken or unfinished, the name is none, the folder holds something else, or the Hub
            does not take it.
    """
    try:
        validate_repo_id(name)
        if "/" not in name:
            raise HFValidationError("it names no owner")
    except HFValidationError as error:
        raise UserError(f"hub={name}: expected OWNER/NAME of a model at the Hub ({error}).") from error
    record = finished(run)
    environment = record.environment
    model, trained, classes = load_checkpoint(Path(run))
    folder = Path(output or Path(run) / "export" / name.replace("/", "--"))
    if odd := [name for name, value in model.state_dict().items() if not isinstance(value, torch.Tensor)]:
        raise UserError(f"{odd[0]} of run {record.key} is no tensor, and the Hub takes tensors alone. Make it a buffer.")
    of = f"run {record.key} as {name}"
    check_folder(folder, of)
    layout = any(value.ndim == 4 and not value.is_contiguous() for value in model.state_dict().values())
    about = Published(
        key=record.key,
        label=record.label,
        data=record.data,
        commit=environment.commit,
        numbers_version=NUMBERS_VERSION,
        code=environment.code,
        channels_last=layout,
        classes=classes,
        miou=record.scores.miou,
        config=without_places(to_plain(trained)),
    )

    def write(scratch: Path) -> None:
        save_file(
            {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in model.state_dict().items()},
            scratch / WEIGHTS,
            {"format": "pt"},
        )
        (scratch / CARD).write_text(card(record, name, licence, classes), encoding="utf-8")
        replace(about, folder=scratch).write()

    write_folder(folder, write, checked=True, of=of)
    console = Console()
    console.print(f"{folder}: weights, description and card of {name}. Load it: exfuse.load({str(folder)!r}).", soft_wrap=True)
    if push:
        _push(folder, name)
        console.print(f"Pushed. Load it: exfuse.load('hf-hub:{name}').", soft_wrap=True)
    return folder


def card(record: Record, name: str, licence: str, classes: list[str]) -> str:
    """The model card: scores, licence, data and commit for people, and for the Hub in its header."""
    scores, environment = record.scores, record.environment
    result = EvalResult(
        task_type="image-segmentation",
        dataset_type=record.data,
        dataset_name=record.data,
        metric_type="mean_iou",
        metric_name="mIoU",
        metric_value=round(scores.miou, 4),
    )
    header = ModelCardData(
        license=licence,
        library_name="exfuse",
        pipeline_tag="image-segmentation",
        tags=["semantic-segmentation", "exfuse"],
        model_name=name,
        eval_results=[result],
    ).to_yaml()
    per_class = [(escape(one), "-" if (iou := scores.iou.get(one)) is None else f"{100 * iou:.1f}") for one in classes]
    accuracy = f", pixel accuracy {100 * scores.pixel_accuracy:.1f} %" if scores.pixel_accuracy is not None else ""
    commit = f"{environment.commit or 'unknown'}{uncommitted_text(environment.uncommitted_changes)}"
    lines = [
        "---",
        header,
        "---",
        f"# {name}",
        "",
        f"Semantic segmentation: {record.title}, backbone {record.encoder} ({record.weights}), seed {record.seed}.",
        "",
        f"- Data: {record.data}; {', '.join(f'{count:,} {split} images' for split, count in record.images.items())}. Their own",
        "  licence is not part of this model's.",
        f"- Licence of the weights: {licence}",
        f"- Code: exfuse, commit {commit}; run `{record.key}`",
        *([f"- Code beside it: {own}"] if (own := ", ".join(f"`{name}`" for name in environment.code)) else []),
        "",
        "## Scores",
        "",
        f"mIoU {100 * scores.miou:.1f} %{accuracy}, of {scores.images:,} images.",
        "",
        *table_lines(("class", "IoU, %"), per_class, ("---", "---:")),
        "",
        "## Use",
        "",
        "```python",
        "import exfuse",
        "",
        f'model = exfuse.load("hf-hub:{name}")',
        'ids = model.predict("photo.jpg")  # (H, W) uint8',
        "```",
        "",
    ]
    return "\n".join(lines)


def _push(folder: Path, name: str) -> None:
    try:
        api = HfApi()
        api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=[WEIGHTS, CARD, Published.INDEX])
    except Exception as error:  # the client raises many kinds; all mean the same to the user
        raise UserError(
            f"{name} could not be pushed ({type(error).__name__}: {str(error).partition(chr(10))[0]}). The folder is {folder}. "
            "Log in with `hf auth login` and say push=true again."
        ) from error
