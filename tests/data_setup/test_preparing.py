"""`exfuse data prepare` from a server on this machine, in the layouts of the real archives."""

import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exfuse.data_setup.archives import tarfile
from exfuse.data_setup.preparing import check, check_imagenet, prepare
from exfuse.errors import ConfigError, DataError
from tests.data.coco_files import rectangle, write_coco
from tests.data.conftest import save_image, save_mask
from tests.data.test_sbd import write_mat
from tests.data_setup.conftest import Site
from tests.described import arguments_of
from tests.extras import needs


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


def tar_of(folder: Path, inside: str, mode: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, inside)
    return packed.getvalue()


def zip_of(folder: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder.parent))
    return packed.getvalue()


@pytest.fixture
def compose(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The config of a source whose archives are these (name, content on the server) instead of the real ones."""

    def composed(source: str, site: Site, archives: dict[str, tuple[str, bytes]], *overrides: str) -> dict[str, Any]:
        replaced = []
        for name, (file, content) in archives.items():
            site.files[file] = content
            replaced += [f"source.archives.{name}.url={site.url(file)}", f"source.archives.{name}.checksum={md5(content)}"]
        return arguments_of("data_prepare", f"source={source}", f"paths.data={tmp_path}/data", *replaced, *overrides)

    return composed


@pytest.fixture
def voc_tar(tmp_path: Path) -> bytes:
    root = tmp_path / "packed" / "VOC2012"
    for number, id in enumerate(("2007_01", "2007_02", "2008_03")):
        save_image(root / "JPEGImages" / f"{id}.jpg", 6, 7, seed=number)
        save_mask(root / "SegmentationClass" / f"{id}.png", np.full((6, 7), number, np.uint8))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_01\n2007_02\n")
    (lists / "val.txt").write_text("2008_03\n")
    return tar_of(root, "VOCdevkit/VOC2012", "w")


def test_voc_is_fetched_checked_and_read(compose, site: Site, voc_tar: bytes, tmp_path: Path, capsys) -> None:
    config = compose("voc", site, {"trainval": ("VOC.tar", voc_tar)}, "source.counts.train=2", "source.counts.val=1")
    site.cuts = [len(voc_tar) // 2]
    prepare(**config)
    first = capsys.readouterr().out
    assert "VOC train: 2 images with masks, whole" in first
    assert "VOC2012test.tar" in first
    assert "manifest" in first
    assert (tmp_path / "data" / "archives" / "VOC.tar").read_bytes() == voc_tar
    prepare(**config)  # nothing to do: said, not done again
    assert len(site.asked) == 2
    with pytest.raises(DataError, match="VOC train has 2 images where a complete copy has 1,464"):
        prepare(**compose("voc", site, {}, "source.counts.val=1"))


def test_an_incomplete_folder_is_never_called_whole(compose, site: Site, voc_tar: bytes, tmp_path: Path) -> None:
    config = compose("voc", site, {"trainval": ("VOC.tar", voc_tar)}, "source.counts.train=2", "source.counts.val=1")
    prepare(**config)
    (tmp_path / "data" / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "2007_02.png").unlink()
    with pytest.raises(DataError, match=r"VOC2012 is not as it was unpacked.*2007_02\.png"):
        prepare(**config)


def test_a_copy_of_the_users_own_is_checked_as_well(compose, site: Site, voc_tar: bytes, tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(voc_tar)) as archive:
        archive.extractall(tmp_path / "data", filter="data")
    config = compose("voc", site, {}, "source.counts.train=2", "source.counts.val=1")
    prepare(**config)
    assert not site.asked
    (tmp_path / "data" / "VOCdevkit" / "VOC2012.manifest").unlink()
    image = tmp_path / "data" / "VOCdevkit" / "VOC2012" / "JPEGImages" / "2007_02.jpg"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) * 2 // 3])  # whose header is whole
    with pytest.raises(DataError, match=r"2007_02\.jpg cannot be decoded"):
        prepare(**config)
    image.write_bytes(whole)
    (tmp_path / "data" / "VOCdevkit" / "VOC2012" / "JPEGImages" / "2008_03.jpg").unlink()
    with pytest.raises(DataError, match=r"2008_03 is listed but its image"):
        prepare(**config)


def test_sbd_is_fetched_and_every_listed_file_asked_for(compose, site: Site, tmp_path: Path, capsys) -> None:
    root = tmp_path / "packed" / "dataset"
    for id in ("a", "b", "c"):
        write_mat(root / "cls" / f"{id}.mat", np.zeros((6, 7), np.uint8))
        save_image(root / "img" / f"{id}.jpg", 6, 7)
    (root / "train.txt").write_text("a\nb\n")
    (root / "val.txt").write_text("c\n")
    packed = tar_of(root, "benchmark_RELEASE/dataset", "w:gz")
    config = compose("sbd", site, {"benchmark": ("benchmark.tgz", packed)}, "source.counts.images=3")
    prepare(**config)
    assert "SBD: 3 images with masks" in capsys.readouterr().out
    with pytest.raises(DataError, match="lists 3 images where a complete SBD has 11,355"):
        prepare(**compose("sbd", site, {}))
    (tmp_path / "data" / "sbd" / "dataset.manifest").unlink()
    mask = tmp_path / "data" / "sbd" / "dataset" / "cls" / "a.mat"
    whole = mask.read_bytes()
    mask.write_bytes(whole[:100])
    for _ in range(2):  # what was never whole is read at every start
        with pytest.raises(DataError, match=r"a\.mat holds no SBD class mask"):
            prepare(**config)
    mask.write_bytes(whole)
    (tmp_path / "data" / "sbd" / "dataset" / "cls" / "c.mat").unlink()
    with pytest.raises(DataError, match=r"SBD lists c but .*c\.mat does not exist"):
        prepare(**config)


@needs("coco")
def test_coco_is_fetched_checked_and_painted(compose, site: Site, tmp_path: Path, capsys) -> None:
    root = tmp_path / "packed" / "coco"
    for split, files in (("train2017", ["000000000001.jpg", "000000000002.jpg"]), ("val2017", ["000000000003.jpg"])):
        cat = {"image": files[0], "category": "cat", "segmentation": rectangle(0, 0, 5, 5)}
        write_coco(root, split, dict.fromkeys(files, (6, 7)), [cat])
    archives = {name: (f"{name}.zip", zip_of(root / name)) for name in ("annotations", "train2017", "val2017")}
    counts = ["source.counts.train2017=2", "source.counts.val2017=1", "data.minimum_pixels=20", "workers=1"]
    config = compose("coco", site, archives, *counts)
    prepare(**config)
    told = " ".join(capsys.readouterr().out.split())
    assert "COCO train2017: 1 image with VOC's classes; left out: 1 without the classes, 0 too few pixels" in told
    assert "COCO in all: 2 images for data=voc_coco. The paper's first stage has 109,892 images in all (second-hand)" in told
    assert len(site.asked) == 3
    prepare(**config)
    assert len(site.asked) == 3
    with pytest.raises(DataError, match="lists 2 images where COCO has 118,287"):
        prepare(**compose("coco", site, {}))
    (tmp_path / "data" / "coco" / "train2017.manifest").unlink()
    image = tmp_path / "data" / "coco" / "train2017" / "000000000001.jpg"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"000000000001\.jpg cannot be decoded"):
        prepare(**config)
    image.write_bytes(whole)
    (tmp_path / "data" / "coco" / "train2017" / "000000000002.jpg").unlink()
    with pytest.raises(DataError, match=r"train2017 lacks 1 of 2 images, e\.g\. 000000000002\.jpg"):
        prepare(**config)


WNIDS = [f"n{number:08d}" for number in range(3)]
COUNTS = {"classes": 3, "train": 12, "val": 6}


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    for split, each in (("train", 4), ("val", 2)):
        for wnid in WNIDS:
            folder = tmp_path / "imagenet" / split / wnid
            folder.mkdir(parents=True)
            for number in range(each):
                (folder / f"{wnid}_{number}.JPEG").touch()
    return tmp_path / "imagenet"


def test_a_complete_imagenet_is_complete(imagenet: Path, capsys) -> None:
    assert check_imagenet(imagenet, COUNTS) == {"train": 12, "val": 6}
    counts = [f"source.counts.{name}={number}" for name, number in COUNTS.items()]
    check(**arguments_of("data_check", "source=imagenet", f"source.root={imagenet}", *counts))
    assert "12 train and 6 val images of 3 classes" in " ".join(capsys.readouterr().out.split())
    anything = [f"source.counts.{name}=null" for name in COUNTS]
    check(**arguments_of("data_check", "source=imagenet", f"source.root={imagenet}", *anything))
    assert "12 train and 6 val images, counted and not read" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(DataError, match=r"train has 3 of 1,000 classes.*train has 12 of 1,281,167 images.*6 of 50,000"):
        check(**arguments_of("data_check", "source=imagenet", f"source.root={imagenet}"))


def rename(folder: Path, name: str) -> None:
    folder.rename(folder.parent / name)


def flatten(folder: Path) -> None:
    for path in [*folder.glob("*/*")]:
        path.rename(folder / path.name)
    for path in [*folder.iterdir()]:
        if path.is_dir():
            path.rmdir()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda root: rename(root / "val", "validation"), r"no folder .*imagenet/val"),
        (lambda root: (root / "train" / WNIDS[1] / f"{WNIDS[1]}_0.JPEG").unlink(), r"11 of 12 images \(fewest: n00000001 3\)"),
        (
            lambda root: [path.unlink() for path in (root / "val" / WNIDS[2]).iterdir()],
            r"val has classes without an image: n00000002",
        ),
        (lambda root: rename(root / "val" / WNIDS[0], "n00000009"), r"1 class of train not in val: n00000000"),
        (lambda root: rename(root / "train" / WNIDS[0], "tench"), r"no WNID: tench"),
        (lambda root: flatten(root / "val"), r"val holds 6 images beside one another, expected a folder per class"),
    ],
)
def test_what_is_missing_of_imagenet_is_named(imagenet: Path, damage: Callable[[Path], object], says: str) -> None:
    damage(imagenet)
    with pytest.raises(DataError, match=rf"(?s)is no complete ImageNet.*{says}.*ILSVRC2012_img_val\.tar"):
        check_imagenet(imagenet, COUNTS)


def test_what_is_made_here_has_no_check_of_its_own() -> None:
    with pytest.raises(ConfigError, match="exfuse data check data=NAME"):
        check(**arguments_of("data_check", "source=coco-masks"))


def test_what_nobody_may_hand_out_is_only_checked() -> None:
    with pytest.raises(ConfigError, match="exfuse data check imagenet"):
        prepare(**arguments_of("data_prepare", "source=imagenet"))
