"""Classification data in torchvision's layout, a folder per class: ImageNet and anyone's own."""

from collections.abc import Mapping
from pathlib import Path

from exfuse.data.labelled import LabelledItem, LabelledSplit
from exfuse.errors import DataError


def read_image_folder(
    root: str | Path,
    split: str,
    name: str,
    counts: Mapping[str, int | None] | None = None,
    manifest: str | None = None,
) -> LabelledSplit:
    """Images of <root>/<split>/<class>/.

    Args:
        root: holds a folder per split, each with a folder per class.
        split: name of that folder, such as train or val.
        name: of the data set, for messages.
        counts: ``classes`` and, by split, the images of a complete copy, to be asserted; None where any number will do.
        manifest: says what the data are, where a name says it as well as reading a million files would. The data then need
            not be there until somebody trains on them.

    Raises:
        DataError: if the folder is missing, holds no class or image, or a count is wrong; for data with a ``manifest``, only
            once they are used.
    """
    folder, counts = Path(root) / split, counts or {}

    def classes() -> tuple[str, ...]:
        if not folder.is_dir():
            raise DataError(
                f"{name} data not found: no folder {folder}. Set pretraining.data.root to the folder that holds {split}/CLASS/."
            )
        from torchvision.datasets.folder import find_classes  # loads torch, which a run's key does not need

        try:
            found = tuple(find_classes(folder)[0])
        except FileNotFoundError as error:
            raise DataError(f"{folder} holds no folder at all; expected one a class.") from error
        if (wanted := counts.get("classes")) is not None and len(found) != wanted:
            raise DataError(f"{folder} holds {len(found)} classes where a complete copy has {wanted}. Complete the data set.")
        return found

    def find() -> list[LabelledItem]:
        from torchvision.datasets import ImageFolder

        classes()
        try:
            samples = ImageFolder(folder).samples
        except FileNotFoundError as error:  # torchvision's message names the empty classes
            raise DataError(f"{folder}: {error}. Fill or remove the folder of that class.") from error
        if (wanted := counts.get(split)) is not None and len(samples) != wanted:
            raise DataError(f"{folder} holds {len(samples)} images where a complete copy has {wanted}. Complete the data set.")
        return [LabelledItem(str(Path(path).relative_to(folder)), Path(path), label) for path, label in samples]

    full_name = f"{name} {split}"
    if manifest is None:
        return LabelledSplit(full_name, classes(), find)
    names = classes() if folder.is_dir() else tuple(f"class {number}" for number in range(counts.get("classes") or 0))
    return LabelledSplit(full_name, names, find, identify=lambda: f"{manifest} {split}")
