"""Classification data: objects cut out of masks, image folders, and what is refused."""

import hashlib
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from exfuse.data.classification import (
    BatchMixing,
    ClassificationData,
    ClassificationDataset,
    ClassificationEvalTransform,
    ClassificationTrainTransform,
)
from exfuse.data.image_folder import read_image_folder
from exfuse.data.labelled import check_excludes, check_labelled
from exfuse.data.loading import Loading
from exfuse.data.object_crops import read_object_crops
from exfuse.data.pixels import read_image
from exfuse.data.voc import read_voc
from exfuse.errors import DataError
from tests.data.conftest import save_image

NORMALISATION = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
CLASSES = ("background", "cat", "dog")


def mask_of(*boxes):
    """(60, 80) ids: background with boxes (id, top, bottom, left, right)."""
    ids = np.zeros((60, 80), np.uint8)
    for id, top, bottom, left, right in boxes:
        ids[top:bottom, left:right] = id
    return ids


@pytest.fixture
def voc(tmp_path, write_voc):
    masks = {
        "one": mask_of((1, 10, 40, 0, 20), (1, 10, 40, 50, 80), (2, 50, 55, 0, 80)),
        "two": mask_of((2, 5, 30, 30, 60), (255, 5, 6, 30, 60)),
        "held": mask_of((1, 0, 60, 0, 80)),
    }
    return write_voc(tmp_path / "voc", masks, {"train": ["one", "two"], "val": ["held"]})


@pytest.fixture
def folder(tmp_path):
    """``folder("train", cat=3, dog=2)``: random images of each class."""

    def written(split, **counts):
        for label, count in counts.items():
            for number in range(count):
                seed = 100 * len(split) + 10 * ord(label[0]) + number
                save_image(tmp_path / "images" / split / label / f"{number}.png", 20 + number, 30, seed)
        return tmp_path / "images"

    return written


def train_transform(**changed):
    settings = {"size": 32, "scale": (0.5, 1.0), "flip": 0.5, "colour": 0.3, "auto_augment": None, "erase": 0.5}
    return ClassificationTrainTransform(**(settings | NORMALISATION | changed))


def test_every_object_is_cut_out_once_with_its_class_and_margin(voc):
    crops = read_object_crops(read_voc(voc, "train", CLASSES), minimum_side=10, margin=0.1)
    assert crops.classes == ("cat", "dog")
    found = {item.id: (item.label, item.box) for item in crops.items}
    assert found == {
        "one/cat/0": (0, (0, 7, 22, 43)),  # as far as the image goes on the left
        "one/cat/1": (0, (47, 7, 80, 43)),
        # the dog of 5 rows is too small; of the other, one row is void
        "two/dog/0": (1, (27, 4, 63, 32)),
    }
    item = crops.items[1]
    whole = read_image(item.image)
    assert np.array_equal(item.read(), whole[7:43, 47:80])


def test_objects_are_looked_up_only_when_somebody_asks_and_keep_their_manifest(voc):
    split = read_voc(voc, "train", CLASSES)
    crops = read_object_crops(split, minimum_side=10, margin=0.1)
    manifest = crops.manifest()
    assert "items" not in vars(crops)
    assert read_object_crops(split, minimum_side=11, margin=0.1).manifest() != manifest
    assert replace(crops, limit=1).manifest() != manifest
    assert len(replace(crops, limit=1)) == 1


def test_an_image_folder_is_read_in_torchvisions_layout(folder):
    split = read_image_folder(folder("train", dog=2, cat=3), "train", "pets")
    assert split.classes == ("cat", "dog")
    assert [(item.id, item.label) for item in split.items] == [
        ("cat/0.png", 0),
        ("cat/1.png", 0),
        ("cat/2.png", 0),
        ("dog/0.png", 1),
        ("dog/1.png", 1),
    ]


def test_hidden_folders_and_ways_back_up_hold_no_data(folder):
    root = folder("train", dog=1, cat=1)
    before = [item.id for item in read_image_folder(root, "train", "pets").items]
    dog = root / "train" / "dog"
    (dog / ".thumbnails").mkdir()
    save_image(dog / ".thumbnails" / "0.png", 9, 9, 0)
    (dog / "loop").symlink_to(dog)
    (dog / "up").symlink_to(root / "train")
    (root / "train" / "cat" / "more").mkdir()
    save_image(root / "train" / "cat" / "more" / "9.png", 9, 9, 1)
    found = [item.id for item in read_image_folder(root, "train", "pets").items]
    assert found == [before[0], "cat/more/9.png", before[1]]


def test_a_name_that_is_no_text_is_refused(folder):
    root = folder("train", dog=1, cat=1)
    dog = root / "train" / "dog"
    (dog / "0.png").rename(dog / os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(DataError, match=r"has a file called 'dog/caf\\udce9.png' \(1 such\), which is no text"):
        len(read_image_folder(root, "train", "pets"))


def test_a_part_of_named_data_is_other_data(folder):
    root, whole = folder("train", dog=1, cat=1), {"classes": 1000, "train": 1281167, "val": 50000}

    def manifest(counts, root=root / "nowhere"):
        return read_image_folder(root, "train", "ImageNet", counts, manifest="ILSVRC2012").manifest()

    assert manifest(whole) == hashlib.sha256(b"ILSVRC2012 train None").hexdigest()
    assert manifest(whole | {"classes": 2}) == manifest(whole | {"classes": 2}, root) != manifest(whole)
    content = read_image_folder(root, "train", "ImageNet").manifest()
    assert manifest(dict.fromkeys(whole), root) == content  # any number will do: only their content says what they are


def test_background_is_no_object_however_it_is_spelt(voc):
    usual = read_object_crops(read_voc(voc, "train", CLASSES), minimum_side=10, margin=0.1)
    split = read_voc(voc, "train", ("Background", *CLASSES[1:]))
    crops = read_object_crops(split, minimum_side=10, margin=0.1)
    assert crops.classes == usual.classes
    assert [item.box for item in crops.items] == [item.box for item in usual.items]


def test_data_that_a_name_identifies_need_not_be_there(tmp_path, folder):
    counts = {"classes": 2, "train": 2}
    absent = read_image_folder(tmp_path / "nowhere", "train", "pets", counts, manifest="pets 1")
    there = read_image_folder(folder("train", dog=1, cat=1), "train", "pets", counts, manifest="pets 1")
    assert absent.manifest() == there.manifest()
    assert len(there) == 2
    with pytest.raises(DataError, match=r"no folder .*nowhere/train. Set pretraining\.data\.root"):
        len(absent)


@pytest.mark.parametrize(
    ("counts", "message"), [({"classes": 3}, "holds 2 classes where .* 3"), ({"train": 9}, "holds 2 images where .* 9")]
)
def test_an_incomplete_copy_is_refused(folder, counts, message):
    root = folder("train", dog=1, cat=1)
    with pytest.raises(DataError, match=message):
        len(read_image_folder(root, "train", "pets", counts))


def test_a_folder_that_is_missing_or_empty_is_refused(tmp_path, folder):
    with pytest.raises(DataError, match="no folder"):
        read_image_folder(tmp_path, "train", "pets")
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="holds no folder at all"):
        read_image_folder(tmp_path, "train", "pets")
    root = folder("train", dog=1, cat=1)
    (root / "train" / "emu").mkdir()
    with pytest.raises(DataError, match="emu"):
        len(read_image_folder(root, "train", "pets"))


def test_a_folder_with_one_class_is_refused(folder):
    folder("train", cat=3)
    root = folder("val", cat=1)
    splits = [read_image_folder(root, split, "pets") for split in ("train", "val")]
    with pytest.raises(DataError, match=r"pets train holds images of one class only \(cat\)"):
        check_labelled(*splits)


def test_splits_with_different_classes_are_refused_by_name(folder):
    folder("train", cat=3, dog=1)
    root = folder("val", cat=1, emu=1)
    splits = [read_image_folder(root, split, "pets") for split in ("train", "val")]
    with pytest.raises(DataError, match="they differ in dog, emu"):
        check_labelled(*splits)


def test_a_shared_image_is_refused(folder):
    split = read_image_folder(folder("train", cat=3, dog=1), "train", "pets")
    with pytest.raises(DataError, match="share 4 images"):
        check_labelled(split, split)


@pytest.mark.parametrize("copied", [False, True])
def test_no_val_image_enters_a_pretraining_set(voc, tmp_path, copied):
    held_out = read_voc(voc, "val", CLASSES)
    check_excludes(read_object_crops(read_voc(voc, "train", CLASSES), 10, 0.1), held_out)
    if copied:  # under another name, in another data set
        target = tmp_path / "images" / "train" / "cat" / "holiday.jpg"
        target.parent.mkdir(parents=True)
        shutil.copy(held_out.items[0].image, target)
        leaking = read_image_folder(tmp_path / "images", "train", "pets")
    else:
        leaking = read_object_crops(held_out, 10, 0.1)
    with pytest.raises(DataError, match=r"held\.jpg of VOC val: scores on it would flatter"):
        check_excludes(leaking, held_out)


def test_an_unreadable_image_is_named(folder):
    root = folder("train", cat=1, dog=1)
    (root / "train" / "dog" / "0.png").write_bytes(b"no image")
    dataset = ClassificationDataset(read_image_folder(root, "train", "pets"), train_transform())
    with pytest.raises(DataError, match=r"dog/0\.png cannot be decoded"):
        dataset[0, 1]


def test_a_sample_depends_on_seed_epoch_and_image_alone(folder):
    split = read_image_folder(folder("train", cat=4, dog=4), "train", "pets")
    dataset = ClassificationDataset(split, train_transform(auto_augment="rand-m6-mstd0.5"), seed=3)
    torch.manual_seed(1)
    first = dataset[2, 5]["image"]
    torch.manual_seed(2)
    dataset[0, 0]
    assert torch.equal(dataset[2, 5]["image"], first)
    assert not torch.equal(dataset[3, 5]["image"], first)
    assert not torch.equal(ClassificationDataset(split, train_transform(), seed=4)[2, 5]["image"], first)
    assert first.shape == (3, 32, 32)
    for workers in (0, 2):
        loader = DataLoader(dataset, sampler=[(2, position) for position in range(8)], num_workers=workers)
        assert torch.equal(list(loader)[5]["image"][0], first)


def test_augmentation_leaves_the_global_generators_alone(folder):
    dataset = ClassificationDataset(read_image_folder(folder("train", cat=1, dog=1), "train", "pets"), train_transform())
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    dataset[0, 0]
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002


def test_evaluation_sees_the_centre_of_the_whole_image():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 10:50] = 255
    tensor = ClassificationEvalTransform(20, 1.0, **NORMALISATION)(image)
    assert tensor.shape == (3, 20, 20)
    # (1 - 0.5) / 0.25: the black margins lie outside the centre, but for what interpolation brings in
    assert torch.allclose(tensor[..., 1:-1], torch.tensor(2.0))


def test_mixing_is_a_function_of_its_seed_and_targets_add_up_to_one():
    mixing = BatchMixing(mixup=0.2, cutmix=1.0, smoothing=0.1, classes=5)
    image, label = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    before = image.clone()
    mixed, target = mixing(image, label, seed=3)
    assert torch.equal(image, before)
    assert target.shape == (4, 5)
    assert torch.allclose(target.sum(1), torch.ones(4))
    again, same = mixing(image, label, seed=3)
    assert torch.equal(mixed, again)
    assert torch.equal(target, same)
    assert not torch.equal(mixing(image, label, seed=4)[0], mixed)


def test_every_image_is_validated_once(folder):
    folder("train", cat=4, dog=4)
    root = folder("val", cat=5, dog=2)
    splits = [read_image_folder(root, split, "pets") for split in ("train", "val")]
    evaluation = ClassificationEvalTransform(32, 1.0, **NORMALISATION)
    data = ClassificationData(*splits, train_transform(), evaluation, Loading(4))
    assert sum(len(batch["label"]) for batch in data.val_dataloader()) == 7
    assert [len(batch["label"]) for batch in data.train_dataloader()] == [4, 4]
