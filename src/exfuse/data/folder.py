"""Anyone's own data, and CamVid: <root>/<split>/{images,labels}/ with index masks and a list of class names."""

import mimetypes
from collections.abc import Iterable, Sequence
from pathlib import Path

from exfuse.data.bands import Bands
from exfuse.data.pixels import FORMATS
from exfuse.data.split import Item, Split, check_folders, make_split
from exfuse.data.text import read_class_names, read_groups
from exfuse.errors import DataError, plural, repeated
from exfuse.limits import Counts, Id, Interval, Orientation, Positive
from exfuse.palette import VOID
from exfuse.store.grouping import COLUMN


def read_folder(
    root: str | Path,
    split: str,
    classes: Sequence[str] | str | Path,
    void_ids: Sequence[Id] = (VOID,),
    counts: Counts | None = None,
    name: str = "folder",
    orientation: Orientation = "refuse",
    groups: str | None = None,
    ordered: bool = False,
    channels: Positive = 3,
    range: Interval | None = None,
    ids: Sequence[Id] = (),
) -> Split:
    """Read the images of one folder; a mask has its image's name and ends in .png.

    Args:
        root: holds a folder per split, each with images/ and labels/.
        split: name of that folder.
        classes: names of the classes in the order of their ids, or a text file that lists one a line.
        void_ids: ids in the label files that mean void.
        counts: how many images each split of a complete copy has, to be asserted.
        name: of the data set, for messages.
        orientation: see `make_split`.
        groups, ordered: which images are not independent, see `exfuse.store.grouping.GroupRule`; ``column`` is the second of
            ``groups.txt`` in the split's folder, whose first names the images.
        channels, range: see `Bands`.
        ids: of the classes in the label files, in the order of their names; empty where these are 0..C-1.

    Raises:
        DataError: see `make_split`; or if a folder or the class list is missing, or an image could not be read for its format.
    """
    folder = Path(root) / split
    hint = f" Set data.root to the folder that holds {split}/images and {split}/labels."
    check_folders(name, (folder / "images", folder / "labels"), hint)
    names = read_class_names(Path(classes)) if isinstance(classes, (str, Path)) else tuple(classes)
    bands = Bands(channels, (range[0], range[1]) if range else None)
    images, others = _by_format(folder / "images", bands.formats)
    masks, strangers = _by_format(folder / "labels", {".png"})
    alone = {*masks} - {*images}  # what lies beside an image, such as a world file, belongs to it
    refuse_other_formats([path for path in others if path.stem in alone or is_picture(path)], folder / "images", bands.formats)
    left_out = [*others, *strangers, *(masks[stem] for stem in sorted(masks.keys() - images.keys()))]
    return make_split(
        f"{name} {split}",
        [Item(stem, path, masks.get(stem, folder / "labels" / f"{stem}.png")) for stem, path in images.items()],
        names,
        void_ids,
        (counts or {}).get(split),
        orientation,
        f"{plural(len(left_out), 'file')} in {folder}, e.g. {left_out[0].relative_to(folder)}" if left_out else "",
        read_groups(folder / "groups.txt", "Write an image's name and its group a line.") if groups == COLUMN else groups,
        ordered,
        bands,
        ids,
    )


def is_picture(path: Path) -> bool:
    """Whether a file's name is that of an image, of whichever format."""
    return (mimetypes.guess_type(path.name)[0] or "").startswith("image/")


def refuse_other_formats(paths: Sequence[Path], folder: Path, formats: Iterable[str] = FORMATS) -> None:
    """Refuse images that would be passed over since they have none of these formats.

    Raises:
        DataError: naming one of them.
    """
    if paths:
        raise DataError(
            f"{folder} holds {plural(len(paths), 'image')} that are not read for their format, e.g. "
            f"{min(paths).name}. Convert them to one of {' '.join(sorted(formats))}, or take them away."
        )


def _by_format(folder: Path, formats: set[str]) -> tuple[dict[str, Path], list[Path]]:
    """Files of these formats by stem, in the order of their names; and what else is there, hidden files apart."""
    found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    fitting = [path for path in found if path.suffix.lower() in formats and not path.is_dir()]
    if twins := repeated(path.stem for path in fitting):
        raise DataError(f"{folder} has several files called {twins[0]}.*: keep the one that belongs to its namesake.")
    return {path.stem: path for path in fitting}, sorted({*found} - {*fitting})
