"""Classification data in torchvision's layout, a folder per class: ImageNet and anyone's own."""

import os
from pathlib import Path

from exfuse.data.folder import is_picture, refuse_other_formats
from exfuse.data.labelled import LabelledItem, LabelledSplit
from exfuse.data.pixels import FORMATS
from exfuse.data.split import check_folders
from exfuse.errors import CONTROL, DataError, plural
from exfuse.limits import Counts

_WHOLE = {"ILSVRC2012": {"classes": 1000, "train": 1281167, "val": 50000}}  # what a name alone stands for


def read_image_folder(
    root: str | Path,
    split: str,
    name: str,
    counts: Counts | None = None,
    manifest: str | None = None,
) -> LabelledSplit:
    """Images of <root>/<split>/<class>/.

    Args:
        root: holds a folder per split, each with a folder per class.
        split: name of that folder, such as train or val.
        name: of the data set, for messages.
        counts: ``classes`` and, by split, the images of a complete copy, to be asserted; None where any number will do.
        manifest: says what the data are, where a name and all of ``counts`` say it as well as reading a million files would.
            The data then need not be there until somebody trains on them.

    Raises:
        DataError: if the folder is missing, holds no class or image, or a count is wrong; for data with a ``manifest``, only
            once they are used.
    """
    folder, counts = Path(root) / split, counts or {}

    def classes() -> tuple[str, ...]:
        check_folders(name, [folder], f" Set pretraining.data.root to the folder that holds {split}/CLASS/.")
        found = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")))
        if not found:
            raise DataError(f"{folder} holds no folder at all; expected one a class.")
        if (wanted := counts.get("classes")) is not None and len(found) != wanted:
            raise DataError(
                f"{folder} holds {plural(len(found), 'class')} where a complete copy has {wanted}. Complete the data set."
            )
        return found

    def find() -> list[LabelledItem]:
        samples, others = list[tuple[Path, int]](), list[Path]()
        for label, name_of_class in enumerate(classes()):
            files = _files(folder / name_of_class)
            images = [path for path in files if path.suffix.lower() in FORMATS]
            if not images:
                raise DataError(f"{folder}: the class {name_of_class} has no image. Fill or remove its folder.")
            samples += [(path, label) for path in images]
            others += [path for path in files if path.suffix.lower() not in FORMATS and is_picture(path)]
        refuse_other_formats(others, folder)
        if (wanted := counts.get(split)) is not None and len(samples) != wanted:
            raise DataError(
                f"{folder} holds {plural(len(samples), 'image')} where a complete copy has {wanted}. Complete the data set."
            )
        items = [LabelledItem(str(path.relative_to(folder)), path, label) for path, label in samples]
        if odd := [item.id for item in items if CONTROL.search(item.id)]:
            raise DataError(f"{folder} has a file called {odd[0]!a} ({len(odd)} such), which is no text. Rename it.")
        return items

    full_name = f"{name} {split}"
    if manifest is None or None in counts.values():  # any images: a name does not say which
        return LabelledSplit(full_name, classes(), find)
    part = "" if dict(counts) == _WHOLE.get(manifest, counts) else f" {sorted(counts.items())}"
    names = classes() if folder.is_dir() else tuple(f"class {number}" for number in range(counts.get("classes") or 0))
    return LabelledSplit(full_name, names, find, identify=lambda: f"{manifest}{part} {split}")


def _files(folder: Path) -> list[Path]:
    """Every file below a folder, nothing hidden, in an order that does not depend on the file system."""
    found, inside = list[tuple[str, list[str]]](), {str(folder): {_place(one) for one in (folder, *folder.resolve().parents)}}
    for above, folders, names in os.walk(folder, followlinks=True):
        found.append((above, sorted(name for name in names if not name.startswith("."))))
        around, below = inside.pop(above), {name: _place(Path(above, name)) for name in folders if not name.startswith(".")}
        folders[:] = [name for name, place in below.items() if place not in around]  # a link back up would be followed for ever
        inside |= {f"{above}/{name}": {*around, below[name]} for name in folders}
    return [Path(above) / name for above, names in sorted(found) for name in names]


def _place(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
