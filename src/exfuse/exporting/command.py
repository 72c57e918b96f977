"""Export a finished run's model: fuse, trace, write, check; a file that fails its check is not kept."""

from pathlib import Path
from types import ModuleType

from rich.console import Console

from exfuse.errors import CheckpointError, UserError
from exfuse.exporting import onnx_format, torch_format
from exfuse.exporting.check import Agreement, agreement
from exfuse.exporting.description import describe
from exfuse.exporting.images import check_images
from exfuse.exporting.tracing import smallest_side, trace
from exfuse.files import write_atomically
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.store.folder import RunFolder
from exfuse.store.record import Record

FORMATS: dict[str, ModuleType] = {"onnx": onnx_format, "torch": torch_format}


def export(run: Path, format_name: str, size: tuple[int, int] | None, output: Path | None) -> Path:
    """Write a run's model as one file and return its path.

    Args:
        run: the folder of a finished run.
        format_name: ``onnx`` or ``torch``.
        size: the (H, W) that the file will take; None for any.
        output: where to; None for ``export/KEY.onnx`` or ``.pt2`` in the run's folder.

    Raises:
        UserError: if the run is missing, broken or unfinished, or its model cannot be exported, or the file differs from it.
    """
    form = FORMATS[format_name]
    form.require()
    record = _finished(run)
    model, trained, classes = load_checkpoint(run)
    least = smallest_side(model)
    output = output or run / "export" / f"{record.key}{form.SUFFIX}"
    if output.suffix != form.SUFFIX:
        raise UserError(f"output={output}: a file of format={format_name} ends with {form.SUFFIX}.")
    images, origin = check_images(trained, size)
    if size is None and (small := [image.shape[1:] for image in images if min(image.shape[1:]) < least]):
        raise UserError(f"The run's images of {small[0]} pixels are smaller than {least} on a side: add size=[HEIGHT,WIDTH].")
    sizes = f"{size[0]}x{size[1]}" if size else f"any height and width of at least {least} pixels"
    console = Console()
    found: list[Agreement] = []

    def write(scratch: Path) -> None:
        with console.status("Tracing"):
            program = trace(model, size)
        with console.status("Writing"):
            form.write(scratch, program, describe(record, classes, sizes))
        with console.status("Checking"):
            found.append(agreement(model, form.load(scratch), images))

    write_atomically(output, write)
    console.print(
        f"Checked on {origin}: scores differ by at most {found[0].difference:.1e} of the largest, "
        f"{found[0].equal:.3%} of the pixels have the same class.\n"
        f"{output} ({output.stat().st_size / 1e6:.1f} MB) takes any number of images of {sizes}.",
        soft_wrap=True,
    )
    return output


def _finished(run: Path) -> Record:
    if not run.is_dir():
        raise CheckpointError(f"No run's folder {run}. Give outputs/runs/KEY of a finished run.")
    record = RunFolder(run.absolute().parent, run.absolute().name).record()
    if record is None or record.pretraining:
        raise CheckpointError(f"{run} holds no record of a run. Give outputs/runs/KEY of a finished run.")
    if not record.done:
        raise CheckpointError(f"Run {record.key} is not finished ({record.status}): train it to its end first.")
    return record
