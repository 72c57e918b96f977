"""`exfuse data prepare` and `exfuse data check`: data sets fetched and checked; ImageNet is only checked."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from exfuse.composition.reading import read_split
from exfuse.data.census import census_lines, census_table, group_lines
from exfuse.data.coco_annotations import annotation_file, read_annotations
from exfuse.data.coco_masks import convert_split
from exfuse.data.contents import hashed_anew
from exfuse.data.pixels import read_image
from exfuse.data.sbd import read_mat
from exfuse.data.split import check_disjoint
from exfuse.data.text import read_id_list
from exfuse.data.voc import read_voc
from exfuse.data_setup.archives import Archive, manifest_file, provide
from exfuse.errors import ConfigError, DataError, UsageError, plural, some
from exfuse.limits import Positive
from exfuse.process import usable_cores
from exfuse.store.description import Option
from exfuse.terminal import Console, track

_WNID = re.compile(r"n\d{8}")
_FETCH = (
    "Get ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from image-net.org (an account and its terms), and unpack them "
    "into train/WNID/ and val/WNID/."
)


def check_imagenet(root: Path, counts: Mapping[str, int]) -> dict[str, int]:
    """Count ``root``/{train,val}/WNID/*.JPEG.

    Args:
        root: holds train/ and val/.
        counts: ``classes`` and the images of ``train`` and ``val`` in a complete copy.

    Returns:
        Images of each split.

    Raises:
        DataError: one line for each thing that is missing or too many: a split, classes, images.
    """
    found, problems = {}, list[str]()
    per_split: dict[str, dict[str, int]] = {}
    for split in ("train", "val"):
        folder = root / split
        if not folder.is_dir():
            problems.append(f"no folder {folder}")
            continue
        per_split[split] = classes = {path.name: _images(path) for path in sorted(folder.glob("[!.]*")) if path.is_dir()}
        found[split] = sum(classes.values())
        problems += _problems(split, folder, classes, counts)
    if len(per_split) == 2:
        for here, there in (("train", "val"), ("val", "train")):
            if lone := sorted(set(per_split[here]) - set(per_split[there])):
                problems.append(f"{plural(len(lone), 'class')} of {here} not in {there}: {some(lone, 3)}")
    if problems:
        raise DataError(f"{root} is no complete ImageNet: " + "; ".join(problems) + f".\n{_FETCH}")
    return found


def _problems(split: str, folder: Path, classes: Mapping[str, int], counts: Mapping[str, int]) -> list[str]:
    problems = []
    if not classes and (loose := _images(folder)):
        return [f"{folder} holds {loose:,} images beside one another, expected a folder per class (WNID)"]
    if strange := [name for name in classes if not _WNID.fullmatch(name)]:
        problems.append(f"{split} has folders that are no WNID: {some(strange, 3)}")
    if counts["classes"] not in (None, len(classes)):
        problems.append(f"{split} has {len(classes):,} of {counts['classes']:,} classes")
    if empty := [name for name, images in classes.items() if not images]:
        problems.append(f"{split} has classes without an image: {some(empty, 3)}")
    if (images := sum(classes.values())) != counts[split] is not None:
        usual = sorted(classes.values())[len(classes) // 2] if classes else 0
        fewest = sorted((number, name) for name, number in classes.items() if number < usual)
        least = f" (fewest: {some([f'{name} {number}' for number, name in fewest], 3)})" if fewest else ""
        problems.append(f"{split} has {images:,} of {counts[split]:,} images{least}")
    return problems


def _images(folder: Path) -> int:
    return sum(path.suffix.lower() in (".jpeg", ".jpg") for path in folder.glob("[!.]*"))


# Data sets fetched and checked: each function says what it found.

_TEST = (
    "VOC's test images come from its evaluation server alone (host.robots.ox.ac.uk:8080, after registration): unpack "
    "VOC2012test.tar in {root}; training needs none of them."
)
_PAPER = "The paper's first stage has 109,892 images in all (second-hand), of which SBD and VOC are 10,582."


def prepare(
    data: Option,
    paths_data: str,
    archives: str | None,
    attempts: Positive,
    workers: Positive | None,
    source: Option | None = None,
) -> None:
    """Fetch what is missing of a data set and check it all.

    Args:
        source, data: see `check`.
        paths_data: folder of all data sets.
        archives: folder where archives are kept; None for one in ``paths_data``.
        attempts: see `exfuse.data_setup.download.fetch`.
        workers: processes that paint COCO's masks; None for as many as cores.

    Raises:
        ConfigError: if nobody may hand it out.
        DataError: if something is missing or broken.
    """
    if source is None:
        raise UsageError("source is not set: which SET? Usage: exfuse data prepare SET [key=value ...]")
    name = source.settings["name"]
    if "archives" not in source.settings:
        raise ConfigError(f"Nobody may hand {name} out. Is yours whole? exfuse data check {name}")
    console, store = Console(), Path(archives or Path(paths_data) / "archives")
    wanted = [Archive.of(archive) for archive in source.settings["archives"].values()]
    manifests = [manifest_file(archive.target) for archive in wanted]
    is_new = not all(manifest.is_file() for manifest in manifests)
    for archive in wanted:
        provide(archive, store, attempts, console)
    if name in _CHECKS:
        try:
            check(data, source, thorough=is_new)
        except BaseException:
            for manifest in manifests if is_new else ():  # so that the next start reads everything again
                manifest.unlink(missing_ok=True)
            raise
    if name.startswith("coco"):
        prepare_coco_masks(data, workers)


def check_data(data: Option) -> None:
    """Read all files of any data anew, hash them and decode them; print how many pixels each class has.

    Raises:
        DataError: if they cannot be trained on.
    """
    console = Console()
    with _read_anew():
        splits = [read_split(data, name) for name in ("train", "val")]
        check_disjoint(*splits)
        for split in splits:
            _decode(split.name, split.image, range(len(split)))
            console.print(census_table(split))
            for line in (*census_lines(split), f"manifest {split.manifest()[:16]}"):
                console.print(line, soft_wrap=True, highlight=False)
        for line in group_lines(*splits):
            console.print(line, soft_wrap=True, highlight=False)


@contextmanager
def _read_anew() -> Iterator[None]:
    """Nothing that is known of a file counts inside.

    Raises:
        DataError: at the end, if one holds something else than what was known of it.
    """
    with hashed_anew() as altered:
        yield
    if altered:
        raise DataError(
            f"{len(altered)} files hold something else than when they were last read, though size and times are the same, "
            f"e.g. {min(altered)}: is the disk sound? Restore them; until then they count as other data."
        )


def _decode(what: str, read: Callable[[Any], object], items: Sequence[Any]) -> None:
    """Read them all, whatever that raises."""
    with ThreadPoolExecutor(8) as pool:
        for _ in track(pool.map(read, items), f"Decoding {what}", len(items), transient=True):
            pass


def check(data: Option, source: Option | None = None, thorough: bool = True) -> None:
    """Check a data set.

    Args:
        data: where it lies, its classes, and which images of COCO take part.
        source: the published one that it is, and what a whole copy holds; None for any data.
        thorough: read and decode every file anew, which of COCO takes minutes.

    Raises:
        DataError: if something is missing or broken.
    """
    if source is None:
        check_data(data)
        return
    if (name := source.settings["name"]) not in _CHECKS:
        raise ConfigError(
            f"What a whole copy of {name} holds is not known here. Check what is trained on: exfuse data check data=NAME."
        )
    _CHECKS[name](source.settings, data.settings, thorough)


def check_voc(source: Mapping[str, Any], data: Mapping[str, Any], thorough: bool) -> None:
    """Check that every listed image and mask of VOC 2012 is there, can be read and fits."""
    counts, console = source["counts"], Console()
    for split in ("train", "val"):
        with _read_anew() if thorough else nullcontext():
            found = read_voc(data["root"], split, data["classes"], counts)
            if thorough:
                _decode(found.name, found.image, range(len(found)))
        state = "whole" if thorough else "all there"
        console.print(f"{found.name}: {plural(len(found), 'image')} with masks, {state}; manifest {found.manifest()[:16]}")
    console.print(_TEST.format(root=Path(data["root"]).parent.parent), soft_wrap=True)


def check_sbd(source: Mapping[str, Any], data: Mapping[str, Any], thorough: bool) -> None:
    """Check that every image that SBD lists has its .mat file, and that both can be read."""
    root = Path(data["sbd_root"])
    ids = [id for split in ("train", "val") for id in read_id_list(root / f"{split}.txt", "SBD's list is missing.")]
    if (wanted := source["counts"]["images"]) is not None and len(set(ids)) != wanted:
        raise DataError(f"{root} lists {plural(len(set(ids)), 'image')} where a complete SBD has {wanted:,}.")
    for id in ids:
        for file in (root / "cls" / f"{id}.mat", root / "img" / f"{id}.jpg"):
            if not file.is_file():
                raise DataError(f"SBD lists {id} but {file} does not exist. Delete {root} and start again.")
    if thorough:
        _decode("SBD's images", read_image, [root / "img" / f"{id}.jpg" for id in ids])
        _decode("SBD's masks", read_mat, [root / "cls" / f"{id}.mat" for id in ids])
    Console().print(f"SBD: {plural(len(ids), 'image')} with masks. With VOC's they are the training set of data=voc_aug.")


def check_coco(source: Mapping[str, Any], data: Mapping[str, Any], thorough: bool) -> None:
    """Check that every image of COCO's annotations is there and can be read."""
    root, console = Path(data["coco_root"]), Console()
    for split in data["coco_splits"]:
        images = read_annotations(annotation_file(root, split), data["classes"])
        if (wanted := source["counts"].get(split)) is not None and len(images) != wanted:
            raise DataError(f"{annotation_file(root, split)} lists {plural(len(images), 'image')} where COCO has {wanted:,}.")
        there = {path.name for path in (root / split).iterdir()}
        if missing := [image.file for image in images if image.file not in there]:
            raise DataError(
                f"{root / split} lacks {len(missing):,} of {plural(len(images), 'image')}, e.g. "
                f"{missing[0]}. Delete it, start again."
            )
        if thorough:
            _decode(f"COCO {split}", read_image, [root / split / image.file for image in images])
        console.print(f"COCO {split}: {plural(len(images), 'image')}, {'whole' if thorough else 'all there'}")


def prepare_coco_masks(data: Option, workers: int | None) -> None:
    """Paint the masks of VOC's classes from COCO's annotations, or what is missing of them."""
    chosen, console, total = data.settings, Console(), 0
    for split in chosen["coco_splits"]:
        processes = workers or usable_cores()
        index = convert_split(Path(chosen["coco_root"]), split, chosen["classes"], chosen["minimum_pixels"], processes)
        total += len(index["masks"])
        left_out = ", ".join(f"{number:,} {reason}" for reason, number in index["left_out"].items())
        console.print(
            f"COCO {split}: {plural(len(index['masks']), 'image')} with VOC's classes; left out: {left_out}", soft_wrap=True
        )
    console.print(f"COCO in all: {total:,} images for data=voc_coco. {_PAPER}", soft_wrap=True)


def check_imagenet_folder(source: Mapping[str, Any], _: Mapping[str, Any], _thorough: bool) -> None:
    """Count the images of a copy of ImageNet-1k, without reading them; nothing is fetched."""
    root = Path(source["root"])
    found = check_imagenet(root, source["counts"])
    of = f" of {classes:,} classes" if (classes := source["counts"]["classes"]) else ""
    Console().print(
        f"{root}: {found['train']:,} train and {found['val']:,} val images{of}, counted and not read",
        soft_wrap=True,
        highlight=False,
    )


_CHECKS = {"voc": check_voc, "sbd": check_sbd, "coco": check_coco, "imagenet": check_imagenet_folder}
