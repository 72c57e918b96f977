"""Anyone's own data, and CamVid: <root>/<split>/{images,labels}/ with index masks and a list of class names."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from exfuse.data.split import Item, Split, make_split
from exfuse.errors import DataError
from exfuse.limits import Id
from exfuse.palette import VOID

_IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


def read_folder(
    root: str | Path,
    split: str,
    classes: Sequence[str] | str | Path,
    void_ids: Sequence[Id] = (VOID,),
    counts: Mapping[str, int | None] | None = None,
    name: str = "folder",
) -> Split:
    """Read the images of one folder; a mask has its image's name and ends in .png.

    Args:
        root: holds a folder per split, each with images/ and labels/.
        split: name of that folder.
        classes: names of the ids 0..C-1, or a text file that lists one a line.
        void_ids: ids in the label files that mean void.
        counts: how many images each split of a complete copy has, to be asserted.
        name: of the data set, for messages.

    Raises:
        DataError: see `make_split`; or if a folder or the class list is missing.
    """
    folder = Path(root) / split
    for part in ("images", "labels"):
        if not (folder / part).is_dir():
            raise DataError(
                f"{name} data not found: no folder {folder / part}. Set data.root to the folder that holds "
                f"{split}/images and {split}/labels."
            )
    names = _class_names(Path(classes)) if isinstance(classes, (str, Path)) else tuple(classes)
    images = sorted(path for path in (folder / "images").iterdir() if path.suffix.lower() in _IMAGES)
    twins = [stem for stem, number in Counter(path.stem for path in images).items() if number > 1]
    if twins:
        raise DataError(f"{name}: {folder}/images has several files called {twins[0]}.*; keep the one its mask belongs to.")
    items = [Item(path.stem, path, folder / "labels" / f"{path.stem}.png") for path in images]
    return make_split(f"{name} {split}", items, names, void_ids, (counts or {}).get(split))


def _class_names(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        raise DataError(f"No class list {path}. Write one class name a line, the first being id 0.")
    return tuple(line.strip() for line in path.read_text().splitlines() if line.strip())
