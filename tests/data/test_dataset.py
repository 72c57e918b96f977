from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from exfuse.data.loading import Loading, TrainSampler
from exfuse.data.pixels import read_image, read_mask
from exfuse.data.segmentation import Batch, SegmentationData, SegmentationDataset
from exfuse.data.split import Item, Split
from exfuse.data.transforms import EvalTransform, TrainTransform
from exfuse.errors import ConfigError, DataError

CLASSES = tuple(f"class{number}" for number in range(21))
NORMALISATION = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
IMAGES = 11


@pytest.fixture(scope="module")
def split(tmp_path_factory, ids_map, write_folder) -> Split:
    root = tmp_path_factory.mktemp("data")
    write_folder(root, "train", {f"{number:02}.png": ids_map(30 + number, 50, seed=number) for number in range(IMAGES)})
    folder = root / "train"
    names = [f"{number:02}" for number in range(IMAGES)]
    items = [Item(name, folder / "images" / f"{name}.png", folder / "labels" / f"{name}.png") for name in names]
    return Split("my train", tuple(items), CLASSES)


def make_data(split: Split, seed: int = 0, batch_size: int = 4, accumulate: int = 1, workers: int = 0) -> SegmentationData:
    transform = TrainTransform(24, None, (0.5, 2.0), flip=0.5, colour=0.3, **NORMALISATION)
    evaluation = EvalTransform(None, **NORMALISATION)
    return SegmentationData(split, split, transform, evaluation, Loading(batch_size, accumulate, workers, seed))


def place(data: SegmentationData, processes: int, rank: int) -> SegmentationData:
    """What a data module reads of the trainer that it is attached to."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(world_size=processes, global_rank=rank, strategy=strategy)  # type: ignore[assignment]
    return data


def two_epochs(data: SegmentationData, epochs: tuple[int, ...] = (0, 1)) -> list[list[Batch]]:
    loader = data.train_dataloader()
    seen = []
    for epoch in epochs:
        loader.sampler.set_epoch(epoch)  # as Lightning does
        seen.append(list(loader))
    return seen


def positions(batches: list[Batch]) -> list[list[int]]:
    return [batch["position"].tolist() for batch in batches]


def assert_same(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other) > 0
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for name in left:
            assert torch.equal(left[name], right[name]), name


def test_any_number_of_workers_gives_the_same_two_epochs(split):
    alone = two_epochs(make_data(split))
    for workers in (1, 2):
        for epoch, batches in enumerate(two_epochs(make_data(split, workers=workers))):
            assert_same(batches, alone[epoch])


def test_a_later_epoch_needs_no_earlier_one(split):
    """A run that was resumed sees what it would have seen."""
    through = two_epochs(make_data(split, workers=1), epochs=(0, 1, 2))
    resumed = two_epochs(make_data(split), epochs=(2,))
    assert_same(resumed[0], through[2])


def test_batches_hold_the_samples_that_their_positions_name(split):
    data = make_data(split, seed=5)
    for epoch, batches in enumerate(two_epochs(data)):
        for batch in batches:
            for row, position in enumerate(batch["position"].tolist()):
                sample = make_data(split, seed=5).train_set[epoch, position]
                assert torch.equal(batch["image"][row], sample["image"])
                assert torch.equal(batch["mask"][row], sample["mask"])


def test_epochs_differ_in_order_and_in_every_sample(split):
    data = make_data(split, batch_size=1)
    first, second = two_epochs(data)
    assert positions(first) != positions(second)
    assert sorted(positions(first)) == sorted(positions(second)) == [[position] for position in range(IMAGES)]
    for position in range(IMAGES):
        one, other = (data.train_set[epoch, position] for epoch in (0, 1))
        assert one["image"].shape == other["image"].shape
        assert not torch.equal(one["image"], other["image"])


def test_seed_1_in_epoch_0_is_not_seed_0_in_epoch_1(split):
    later, reseeded = two_epochs(make_data(split, seed=0))[1], two_epochs(make_data(split, seed=1))[0]
    assert positions(later) != positions(reseeded)
    for position in range(IMAGES):
        one, other = make_data(split, seed=0).train_set[1, position], make_data(split, seed=1).train_set[0, position]
        assert not torch.equal(one["image"], other["image"])


def test_a_sample_depends_on_its_id_and_not_on_the_rest_of_the_split(split):
    """The same images in a larger split, such as VOC's in train_aug, are cropped alike."""
    part = Split("part", split.items[3:], CLASSES)
    for position in range(len(part)):
        alone, among = make_data(part).train_set[2, position], make_data(split).train_set[2, position + 3]
        assert torch.equal(alone["image"], among["image"])
        assert torch.equal(alone["mask"], among["mask"])


def test_every_image_of_an_epoch_gets_numbers_of_its_own(tmp_path, ids_map, write_folder):
    """Twelve copies of one image: what differs between them is random."""
    ids = ids_map(30, 40, seed=1)
    write_folder(tmp_path, "train", {"copy.png": ids})
    folder = tmp_path / "train"
    items = [Item(f"{number}", folder / "images" / "copy.png", folder / "labels" / "copy.png") for number in range(12)]
    for workers in (0, 2):
        batches = two_epochs(make_data(Split("copies", tuple(items), CLASSES), workers=workers))
        images = {image.numpy().tobytes() for epoch in batches for batch in epoch for image in batch["image"]}
        assert len(images) == 24


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_processes_take_turns_on_the_order_of_one(split, processes):
    dataset = make_data(split).train_set
    for epoch in (0, 3):
        samplers = [TrainSampler(dataset, 7, processes, rank, processes) for rank in range(processes)]
        alone = TrainSampler(dataset, 7, 1, 0, 1)
        for sampler in (*samplers, alone):
            sampler.set_epoch(epoch)
        order = list(alone)
        assert sorted(order) == [(epoch, position) for position in range(IMAGES)]
        turns = [sample for turn in zip(*samplers, strict=True) for sample in turn]
        assert turns == order[: IMAGES // processes * processes]
        assert all(len(sampler) == len(list(sampler)) for sampler in samplers)


@pytest.mark.parametrize(("batch_size", "processes"), [(4, 1), (4, 2), (4, 4), (6, 2), (6, 3), (3, 3), (10, 2), (11, 1)])
def test_processes_together_make_the_batches_of_one(split, batch_size, processes):
    """As many of them, and the same images in each: a batch of one optimiser step is not a matter of the machine."""
    alone = positions(two_epochs(make_data(split, batch_size=batch_size))[1])
    ranks = [
        positions(two_epochs(place(make_data(split, batch_size=batch_size), processes, rank))[1]) for rank in range(processes)
    ]
    together = [sorted(position for share in shares for position in share) for shares in zip(*ranks, strict=True)]
    assert together == [sorted(batch) for batch in alone]
    assert len(alone) == IMAGES // batch_size


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_evaluation_covers_every_image_exactly_once(split, processes):
    seen = []
    for rank in range(processes):
        loader = place(make_data(split), processes, rank).val_dataloader()
        batches = list(loader)
        assert len(loader) == len(batches) == len(range(rank, len(loader.dataset), processes))
        seen += [position for batch in batches for position in batch["position"].tolist()]
    assert sorted(seen) == list(range(IMAGES))


def test_evaluation_gives_whole_images_with_their_own_masks(split):
    for batch in make_data(split, workers=1).val_dataloader():
        item = split.items[int(batch["position"])]
        expected = (read_image(item.image) / 255 - 0.5) / 0.25
        np.testing.assert_allclose(batch["image"][0].permute(1, 2, 0), expected, atol=2e-6)
        np.testing.assert_array_equal(batch["mask"][0], read_mask(item.mask, 21))


def test_evaluation_keeps_masks_at_native_size_when_the_network_sees_another(split):
    dataset = SegmentationDataset(split, EvalTransform(25, **NORMALISATION))
    sample = dataset[4]
    assert sample["image"].shape[-2:] == (17, 25)  # of 34 x 50
    np.testing.assert_array_equal(sample["mask"], np.asarray(Image.open(split.items[4].mask)))


@pytest.mark.parametrize(
    ("settings", "processes", "says"),
    [
        ({"batch_size": 4}, 3, r"a multiple of 3 processes x trainer\.accumulate_grad_batches=1"),
        ({"batch_size": 6, "accumulate": 4}, 1, r"a multiple of 1 processes x trainer\.accumulate_grad_batches=4"),
        ({"batch_size": 2}, 4, "a multiple of 4 processes"),
        ({"batch_size": 0}, 1, "a multiple of"),
        ({"batch_size": IMAGES + 1}, 1, f"is more than the {IMAGES} images of my train"),
        ({"batch_size": IMAGES + 1}, 2, f"is more than the {IMAGES} images of my train"),
    ],
)
def test_a_batch_that_cannot_be_made_is_refused_by_its_key(split, settings, processes, says):
    data = place(make_data(split, **settings), processes, 0)
    with pytest.raises(ConfigError, match=rf"recipe\.batch_size={settings['batch_size']} .*{says}"):
        data.train_dataloader()


def test_accumulated_batches_share_out_one_step(split):
    data = place(make_data(split, batch_size=8, accumulate=2), 2, 0)
    assert data.train_dataloader().batch_size == 2


def broken_image(item: Item) -> str:
    item.image.write_bytes(item.image.read_bytes()[:2000])
    return str(item.image)


def broken_mask(item: Item) -> str:
    Image.fromarray(np.full((30, 40), 77, np.uint8)).save(item.mask)
    return str(item.mask)


@pytest.fixture
def four(tmp_path, ids_map, write_folder) -> Split:
    """A split of four images that a test may break."""
    write_folder(tmp_path, "train", {f"{name}.png": ids_map(30, 40) for name in "abcd"})
    folder = tmp_path / "train"
    items = [Item(name, folder / "images" / f"{name}.png", folder / "labels" / f"{name}.png") for name in "abcd"]
    return Split("mine", tuple(items), CLASSES)


@pytest.mark.parametrize("damage", [broken_image, broken_mask])
def test_bad_data_are_named_in_training_and_in_evaluation(four, damage: Callable[[Item], str]):
    file = damage(four.items[2])
    data = make_data(four)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        with pytest.raises(DataError) as refusal:
            list(loader)
        assert file in str(refusal.value)


@pytest.mark.slow  # torch gives a worker that failed five seconds to end
def test_bad_data_in_a_worker_surface_as_a_data_error_that_names_the_file(four):
    file = broken_image(four.items[2])
    with pytest.raises(DataError) as refusal:
        list(make_data(four, workers=1).val_dataloader())
    assert file in str(refusal.value)
