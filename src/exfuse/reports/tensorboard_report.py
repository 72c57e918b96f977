"""A study's table and figures for TensorBoard, beside the runs that it shows already."""

from pathlib import Path

import numpy as np
from PIL import Image

from exfuse.analysis.formats import markdown
from exfuse.analysis.rendering import Rendering
from exfuse.errors import needing
from exfuse.files import check_folder, seen_from, write_folder
from exfuse.limits import Text
from exfuse.store.study_file import FIGURES
from exfuse.store.study_reading import load_study
from exfuse.terminal import Console


def report_to_tensorboard(study_folder: Text, output: Text | None) -> None:
    """Write an event file with the study's tables as text and its figures as pictures.

    Args:
        study_folder: of the study.
        output: folder of the event file; None for one below outputs/reports.

    Raises:
        ConfigError: if TensorBoard is not installed.
        UserError: if the study cannot be read, or somebody else's files lie there.
    """
    with needing("tensorboard", "report tensorboard"):
        from torch.utils.tensorboard import SummaryWriter
    study = load_study(Path(study_folder))
    place = Path(output or Path("outputs/reports/tensorboard") / study.folder.resolve().name)
    of = f"TensorBoard's report of study {seen_from(place, study.folder)}"
    check_folder(place, of)
    figures = [path for name in FIGURES if (path := study.folder / f"{name}.png").is_file()]

    def write(folder: Path) -> None:
        with SummaryWriter(str(folder)) as writer:
            for table in Rendering(study).tables:
                writer.add_text(table.name, markdown.render([table]))
            for path in figures:
                writer.add_image(f"{study.name}/{path.stem}", np.asarray(Image.open(path).convert("RGB")), dataformats="HWC")

    write_folder(place, write, checked=True, of=of)
    Console().print(f"{study.title}: {place}. Look at it by: tensorboard --logdir outputs", soft_wrap=True, highlight=False)
