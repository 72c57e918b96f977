"""SBD, the Semantic Boundaries Dataset, as the usual extension of VOC 2012's training set to 10,582 images ("train_aug")."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock
from scipy.io import loadmat

from exfuse.data.contents import content_hashes
from exfuse.data.split import Item, Split, make_split
from exfuse.data.text import read_id_list
from exfuse.data.voc import voc_item
from exfuse.errors import DataError
from exfuse.files import decoded, write_folder, write_json
from exfuse.limits import Counts, Orientation
from exfuse.palette import palette_image
from exfuse.terminal import track

_HINT = "Set data.sbd_root to the folder 'dataset' of SBD's benchmark archive, which holds cls/, img/, train.txt and val.txt."


def read_train_aug(
    root: str | Path,
    sbd_root: str | Path,
    classes: Sequence[str],
    counts: Counts | None = None,
    name: str = "VOC + SBD",
    orientation: Orientation = "refuse",
) -> Split:
    """VOC's train together with all of SBD that is not in VOC's val.

    An image that VOC itself annotates for training keeps VOC's finer mask, with its void border; the others take SBD's,
    converted once from .mat to PNG beside the originals.

    Args:
        root: VOC 2012 in devkit layout; its JPEGImages holds SBD's images too.
        sbd_root: SBD's folder ``dataset`` with cls/, train.txt and val.txt.
        classes: names of the 21 ids, the same in both data sets.
        counts: ``train_aug`` of a complete copy, to be asserted.
        name: of the data set, for messages.
        orientation: see `make_split`.

    Raises:
        DataError: see `make_split`; or if either layout is not found, or the result shares an image with VOC's val.
    """
    root, sbd_root = Path(root), Path(sbd_root)
    lists = root / "ImageSets" / "Segmentation"
    hint = "Set data.root to the folder that holds VOC2012."
    fine, held_out = (read_id_list(lists / f"{split}.txt", hint) for split in ("train", "val"))
    coarse = [*read_id_list(sbd_root / "train.txt", _HINT), *read_id_list(sbd_root / "val.txt", _HINT)]
    extra = sorted(set(coarse) - set(fine) - set(held_out))
    masks = convert_masks(sbd_root, extra)
    items = [voc_item(root, id) for id in fine]
    items += [Item(id, _image(root, sbd_root, id), masks / f"{id}.png") for id in extra]
    if shared := {item.id for item in items} & set(held_out):
        raise DataError(f"{name}: {len(shared)} training images are also in val, e.g. {min(shared)}. Restore the lists.")
    wanted = (counts or {}).get("train_aug")
    return make_split(f"{name} train_aug", items, classes, count=wanted, orientation=orientation)


def convert_masks(sbd_root: Path, ids: Sequence[str]) -> Path:
    """Convert SBD's class masks from .mat to palette PNG, once; return their folder.

    ``cls_png.json`` holds the SHA-256 of each mask's .mat file, which of masks of earlier versions is not known.
    A mask whose .mat file holds something else than when it was converted is converted anew. The folder appears under its name
    only when complete, so that an interrupted conversion is never taken for a finished one.

    Raises:
        DataError: if a .mat file is missing, cannot be read or has no class mask.
    """
    target, sources = sbd_root / "cls_png", {id: sbd_root / "cls" / f"{id}.mat" for id in ids}
    listed = target.with_suffix(".json")

    def outdated() -> list[str]:
        there = {path.stem for path in target.glob("*.png")}
        present = {id: path for id, path in sources.items() if id in there and path.is_file()}  # whose originals may be gone
        made = decoded(listed, dict[str, str]) or {}
        hashes = dict(zip(present, content_hashes([*present.values()]), strict=True))
        return [id for id in ids if id not in there or (id in hashes and made.get(id, hashes[id]) != hashes[id])]

    if not outdated():  # asked without the lock, which a read-only folder could not hold
        return target
    with FileLock(sbd_root / "cls_png.lock"):
        if not (stale := outdated()):  # another process converted them while this one waited
            return target

        def convert(scratch: Path) -> None:
            replaced = {f"{id}.png" for id in stale}
            for path in target.glob("*"):  # whoever wrote it
                if path.is_file() and path.name not in replaced:
                    shutil.copy2(path, scratch)
            for id in track(stale, description="Converting SBD's masks", disable=len(stale) < 100):
                palette_image(read_mat(sources[id])).save(scratch / f"{id}.png")

        write_folder(target, convert)
        made = dict(zip(stale, content_hashes([sources[id] for id in stale]), strict=True))
        made = (decoded(listed, dict[str, str]) or {}) | made
        write_json(listed, made)  # last: masks of other sources than it says are made again
    return target


def read_mat(path: Path) -> np.ndarray:
    """The class mask of one of SBD's files, (H, W) uint8 ids.

    Raises:
        DataError: if there is none.
    """
    if not path.is_file():
        raise DataError(f"SBD lists {path.stem} but {path} does not exist. {_HINT}")
    try:
        mask = np.asarray(loadmat(path, simplify_cells=True)["GTcls"]["Segmentation"])
        if mask.ndim != 2 or mask.dtype != np.uint8:
            raise ValueError(f"GTcls.Segmentation is {mask.dtype} of shape {mask.shape}, expected uint8 ids (H, W)")
    except Exception as error:  # a broken file makes scipy raise whatever its parser stumbles over
        raise DataError(f"{path} holds no SBD class mask ({error!r}). Fetch SBD's benchmark archive again.") from error
    return mask


def _image(root: Path, sbd_root: Path, id: str) -> Path:
    """VOC 2012 holds every image of SBD; SBD's own copy serves where VOC's was left out."""
    image = root / "JPEGImages" / f"{id}.jpg"
    return image if image.is_file() else sbd_root / "img" / f"{id}.jpg"
