"""A cache changes no bit of any sample, costs each image one decoding, and never trusts a file that is not whole."""

import errno
import json
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from exfuse.data import cache, disk_cache
from exfuse.data.cache import CachePolicy, keep
from exfuse.data.classification import (
    ClassificationData,
    ClassificationEvalTransform,
    ClassificationTrainTransform,
    LabelledPixels,
)
from exfuse.data.disk_cache import DiskCache
from exfuse.data.folder import read_folder
from exfuse.data.image_folder import read_image_folder
from exfuse.data.loading import Loading
from exfuse.data.memory_cache import MemoryCache
from exfuse.data.object_crops import read_object_crops
from exfuse.data.samples import Layout
from exfuse.data.segmentation import Batch, PreparedSplit, SegmentationData
from exfuse.data.split import Split
from exfuse.data.transforms import EvalTransform, TrainTransform
from exfuse.errors import ConfigError, DataError
from exfuse.memory import memory_limit

NORMALISATION = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
CLASSES = [f"class{number}" for number in range(21)]
IMAGES = 10


@pytest.fixture
def split(tmp_path: Path, ids_map: Callable[..., np.ndarray], write_folder: Callable[..., Path]) -> Split:
    masks = {f"{number:02}.png": ids_map(30 + 3 * number, 50 - number, seed=number) for number in range(IMAGES)}
    return read_folder(write_folder(tmp_path / "data", "train", masks), "train", CLASSES)


def make_data(split: Split, cache: CachePolicy, long_side: int | None = None, workers: int = 0, **changes: object):
    options = {"crop": 24, "scale": (0.5, 2.0), "flip": 0.5, "colour": 0.3} | changes
    transform = TrainTransform(long_side=long_side, **options, **NORMALISATION)
    data = SegmentationData(
        split, split, transform, EvalTransform(long_side, **NORMALISATION), Loading(4, workers=workers, cache=cache)
    )
    data.setup("fit")
    return data


def train_batches(data: SegmentationData, epochs: tuple[int, ...]) -> list[Batch]:
    loader = data.train_dataloader()
    seen = []
    for epoch in epochs:
        loader.sampler.set_epoch(epoch)
        seen += list(loader)
    return seen


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other) > 0
    for left, right in zip(one, other, strict=True):
        for name in ("image", "mask", "position"):
            assert torch.equal(left[name], right[name]), name


@pytest.mark.filterwarnings("error:The given NumPy array is not writable")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("long_side", [None, 41])
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_samples_are_those_without_a_cache_over_epochs_workers_and_a_resume(split, tmp_path, kind, long_side, workers):
    plain = make_data(split, CachePolicy(), long_side)
    cached = make_data(split, CachePolicy(kind, folder=tmp_path / "cache"), long_side, workers)
    assert type(cached.train_set.samples) is {"memory": MemoryCache, "disk": DiskCache}[kind]
    assert_same(train_batches(cached, (0, 1, 2)), train_batches(plain, (0, 1, 2)))
    resumed = make_data(split, CachePolicy(kind, folder=tmp_path / "cache"), long_side, workers)
    assert_same(train_batches(resumed, (2,)), train_batches(plain, (2,)))
    for _ in range(2):  # decoded, then kept
        assert_same(list(cached.val_dataloader()), list(plain.val_dataloader()))


@pytest.mark.filterwarnings("error:The given NumPy array is not writable")
def test_a_transform_that_changes_nothing_does_not_hand_out_the_cache_itself(split):
    """Then a sample's pixels could be changed for all later epochs."""
    still = {"crop": 41, "scale": (1.0, 1.0), "flip": 0.0, "colour": 0.0}
    square = Split("one", (split.items[0],), split.classes)
    data = make_data(square, CachePolicy("memory", share=1), 41, **still)
    for dataset, index in ((data.train_set, (0, 0)), (data.val_set, 0)):
        first = dataset[index]
        kept = {name: first[name].clone() for name in first}
        for tensor in first.values():
            tensor.fill_(7)
        assert_same([dataset[index]], [kept])


def counting(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    read = PreparedSplit.read

    def logged(self: PreparedSplit, position: int):
        with log.open("a") as file:  # by whichever process
            file.write(f"{type(self.transform).__name__}/{position}\n")
        return read(self, position)

    monkeypatch.setattr(PreparedSplit, "read", logged)


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_workers_share_what_one_of_them_decoded(split, tmp_path, monkeypatch, kind):
    log = tmp_path / "log"
    counting(monkeypatch, log)
    data = make_data(split, CachePolicy(kind, folder=tmp_path / "cache"), workers=2)
    train_batches(data, (0, 1, 2, 3))  # two of ten images sit out in each epoch, not always the same
    decoded = log.read_text().split()
    assert sorted(set(decoded)) == sorted(decoded)
    if kind == "memory":
        assert data.train_set.samples.filled == len(decoded)


@pytest.mark.slow  # a process that loads torch anew
def test_spawned_workers_share_the_memory_of_their_parent(split):
    cache = keep(PreparedSplit(split, EvalTransform(None, **NORMALISATION)), CachePolicy("memory")).samples
    process = multiprocessing.get_context("spawn").Process(target=cache.read, args=(3,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert cache.filled == 1


def test_memory_is_not_taken_before_it_is_filled_and_is_given_back(split):
    source = PreparedSplit(split, EvalTransform(None, **NORMALISATION))
    layout = Layout([((2**30,),)] * IMAGES)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None  # noqa: PTH208
    cache = MemoryCache(source, layout)
    assert cache.filled == 0
    del cache
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize("long_side", [None, 20, 41, 333])
def test_the_size_is_known_before_anything_is_decoded(split, monkeypatch, long_side):
    for transform in (
        TrainTransform(24, long_side, (0.5, 2.0), 0.5, 0.3, **NORMALISATION),
        EvalTransform(long_side, **NORMALISATION),
    ):
        source = PreparedSplit(split, transform)
        expected = sum(array.nbytes for position in range(IMAGES) for array in source.read(position))
        with monkeypatch.context() as patch:
            patch.setattr(PreparedSplit, "read", None)
            assert keep(source, CachePolicy("memory")).bytes == expected


def test_albumentations_scales_to_the_announced_size():
    generator = np.random.default_rng(0)
    for height, width, long_side in generator.integers(1, 400, (300, 3)).tolist():
        transform = EvalTransform(long_side, **NORMALISATION)
        image, mask = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
        assert transform.prepare(image, mask)[0].shape[:2] == transform.prepared_sizes(height, width)[0]


def test_auto_keeps_what_fits_and_reads_no_more_headers_than_it_needs(split, monkeypatch):
    source = PreparedSplit(split, EvalTransform(None, **NORMALISATION))
    size = keep(source, CachePolicy("memory")).bytes
    monkeypatch.setattr(cache, "memory_limit", lambda: 10 * size)
    assert keep(source, CachePolicy("auto", share=0.1)).place == "memory"
    assert keep(source, CachePolicy("auto", share=0.2), processes=2).place == "memory"
    assert keep(source, CachePolicy("auto", share=0.2), taken=size).place == "memory"
    for options in ({"processes": 2}, {"taken": 1}):
        kept = keep(source, CachePolicy("auto", share=0.1), **options)
        assert kept == (source, 0, "none")
    monkeypatch.setattr(cache, "_BLOCK", 2)
    asked: list[int] = []
    shapes = PreparedSplit.shapes
    monkeypatch.setattr(PreparedSplit, "shapes", lambda self, position: asked.append(position) or shapes(self, position))
    assert keep(source, CachePolicy("auto", share=0.01)).place == "none"
    assert sorted(asked) == [0, 1]


def test_memory_that_is_not_there_is_refused_by_its_key(split, monkeypatch):
    monkeypatch.setattr(cache, "memory_limit", lambda: 1000)
    with pytest.raises(ConfigError, match=r"runtime\.cache=memory: .*do not fit.*runtime\.cache=disk or none"):
        make_data(split, CachePolicy("memory"))


def test_labelled_images_are_those_without_a_cache(tmp_path, ids_map, write_folder):
    masks = {f"{number}.png": np.kron(ids_map(4, 5, seed=number), np.ones((10, 10), np.uint8)) for number in range(4)}
    crops = read_object_crops(read_folder(write_folder(tmp_path, "train", masks), "train", CLASSES), 10, 0.1, skip=())
    transform = ClassificationTrainTransform(32, (0.5, 1.0), 0.5, 0.3, None, 0.0, **NORMALISATION)
    evaluation = ClassificationEvalTransform(32, 1.0, **NORMALISATION)
    make = partial(ClassificationData, crops, crops, transform, evaluation)
    plain, cached = make(Loading(2)), make(Loading(2, cache=CachePolicy("memory")))
    cached.setup("fit")
    assert len(crops) > 4
    for _ in range(2):
        for position in range(len(crops)):
            assert torch.equal(cached.train_set[3, position]["image"], plain.train_set[3, position]["image"])
            assert torch.equal(cached.val_set[position]["image"], plain.val_set[position]["image"])
    assert cached.train_set.samples.filled == cached.val_set.samples.filled == len(crops)


def test_data_known_by_name_are_cached_by_what_their_files_are(tmp_path):
    for label in ("a", "b"):
        (tmp_path / "train" / label).mkdir(parents=True)
        Image.new("RGB", (20, 10)).save(tmp_path / "train" / label / "1.png")
    named = read_image_folder(tmp_path, "train", "named", manifest="by name")
    before = LabelledPixels(named).identity()
    assert LabelledPixels(named).identity() == before
    Image.new("RGB", (20, 10), "red").save(tmp_path / "train" / "a" / "1.png")
    os.utime(tmp_path / "train" / "a" / "1.png", (1e9, 1e9))
    assert LabelledPixels(named).identity() != before


def test_the_limit_is_the_machines_or_a_control_groups(tmp_path, monkeypatch):
    machine = memory_limit()
    assert 2**28 < machine <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    (tmp_path / "job").mkdir()
    monkeypatch.setattr("exfuse.memory._cgroups", lambda: [tmp_path / "job", tmp_path])
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit() >= machine
    (tmp_path / "job" / "memory.max").write_text("12345678\n")
    assert memory_limit() == 12345678


def disk_policy(tmp_path: Path) -> CachePolicy:
    return CachePolicy("disk", folder=tmp_path / "cache")


def train_files(data: SegmentationData) -> tuple[Path, Path]:
    path = data.train_set.samples.path
    return path, path.with_suffix(".json")


def test_a_later_run_decodes_nothing(split, tmp_path, monkeypatch):
    make_data(split, disk_policy(tmp_path), 41)
    monkeypatch.setattr(PreparedSplit, "read", None)
    again = make_data(split, disk_policy(tmp_path), 41)
    assert len(train_batches(again, (0,))) == 2


def cut_short(samples: Path, listed: Path) -> None:
    samples.write_bytes(samples.read_bytes()[:-1])


def unlisted(samples: Path, listed: Path) -> None:
    listed.unlink()


def half_a_list(samples: Path, listed: Path) -> None:
    listed.write_text(listed.read_text()[:50])


def shorter_list(samples: Path, listed: Path) -> None:
    content = json.loads(listed.read_text())
    listed.write_text(json.dumps(content | {"checksums": content["checksums"][1:]}))


@pytest.mark.parametrize("damage", [cut_short, unlisted, half_a_list, shorter_list])
def test_a_file_that_is_not_whole_is_written_again(split, tmp_path, damage):
    data = make_data(split, disk_policy(tmp_path))
    samples, listed = train_files(data)
    whole = samples.read_bytes(), listed.read_bytes()
    damage(samples, listed)
    make_data(split, disk_policy(tmp_path))
    assert (samples.read_bytes(), listed.read_bytes()) == whole


def test_an_altered_file_is_refused_by_name(split, tmp_path):
    samples, _ = train_files(make_data(split, disk_policy(tmp_path)))
    content = bytearray(samples.read_bytes())
    content[len(content) // 2] ^= 1
    samples.write_bytes(content)
    with pytest.raises(DataError, match=f"{samples.name} was altered.*Delete it"):
        train_batches(make_data(split, disk_policy(tmp_path)), (0, 1, 2))


def test_a_broken_image_leaves_no_file_behind(split, tmp_path):
    image = split.items[4].image
    image.write_bytes(image.read_bytes()[:400])
    with pytest.raises(DataError, match=image.name):
        make_data(split, disk_policy(tmp_path))
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} <= {".lock"}


def test_every_scale_kind_and_content_has_a_file_of_its_own(split, tmp_path, monkeypatch):
    def names(long_side: int | None = 41) -> set[str]:
        data = make_data(split, disk_policy(tmp_path), long_side)
        return {dataset.samples.path.name for dataset in (data.train_set, data.val_set)}

    first = names()
    assert len(first) == 2  # a mask is scaled for training, not for scores
    assert names() == first
    seen = [first, names(40), names(None)]
    mask = split.items[2].mask
    mask.write_bytes(mask.read_bytes() + b"more")  # another file, of the same pixels
    seen.append(names())
    monkeypatch.setattr(disk_cache, "version", lambda _: "0")
    seen.append(names())
    assert len(set().union(*seen)) == sum(map(len, seen))


def test_a_full_disk_is_refused_before_anything_is_written(split, tmp_path, monkeypatch):
    monkeypatch.setattr(disk_cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(DataError, match=r"paths\.cache"):
        make_data(split, disk_policy(tmp_path))


def test_a_disk_that_loses_its_space_meanwhile_ends_in_an_error_not_in_a_signal(split, tmp_path):
    """Space is taken before anything is mapped: a page without one would end the process by SIGBUS."""

    def without_space() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            make_data(split, disk_policy(tmp_path))
        except OSError as error:
            os._exit(7 if error.errno == errno.EFBIG else 8)
        os._exit(9)

    process = multiprocessing.get_context("fork").Process(target=without_space)
    process.start()
    process.join()
    assert process.exitcode == 7
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} <= {".lock"}


def test_two_processes_at_once_write_one_file(split, tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=make_data, args=(split, disk_policy(tmp_path))) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(list((tmp_path / "cache").glob("*.samples"))) == 2
    assert_same(
        train_batches(make_data(split, disk_policy(tmp_path)), (0,)), train_batches(make_data(split, CachePolicy()), (0,))
    )
