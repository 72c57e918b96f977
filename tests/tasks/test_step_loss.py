"""A step's loss is the mean over the labelled pixels of its whole batch, whatever parts and processes share that."""

import os
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.multiprocessing import start_processes
from torch.nn import functional as F
from torch.utils.data import Dataset

from exfuse.data.loading import LoadedData, Loading, TrainSampler
from exfuse.models.segmenter import Prediction
from exfuse.palette import VOID
from exfuse.tasks.losses import CrossEntropy, Dice, Focal, HardPixels
from exfuse.tasks.optimised import Learning
from exfuse.tasks.schedule import poly
from exfuse.tasks.segmentation import SegmentationTask
from tests.entry_points import SERVER

_CLASSES, _BATCH, _IMAGES = 3, 4, 11  # three images are left over
_LR = 0.5


class _Images(Dataset):
    """Of very different numbers of labelled pixels, one of them without any."""

    source: tuple[()] = ()

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(_IMAGES, 3, 6, 6, generator=generator, dtype=torch.float64)
        self.masks = torch.randint(_CLASSES, (_IMAGES, 6, 6), generator=generator, dtype=torch.uint8)
        for number, mask in enumerate(self.masks):
            mask.flatten()[: 36 - 3 * number] = VOID

    def __len__(self) -> int:
        return _IMAGES

    def __getitem__(self, index: tuple[int, int]) -> dict[str, Tensor]:
        return {"image": self.images[index[1]], "mask": self.masks[index[1]]}


class _Network(nn.Module):
    auxiliary_weights = {"half": 0.4}

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.backbone = nn.Conv2d(3, 4, 3, padding=1, dtype=torch.float64)
        self.scores = nn.Conv2d(4, _CLASSES, 1, dtype=torch.float64)

    def forward(self, image: Tensor) -> Prediction:
        scores = self.scores(self.backbone(image).tanh())
        return Prediction(scores, {"half": F.avg_pool2d(scores, 2)})


def _fit(parts: int, processes: int, clip: float | None, loss: nn.Module | None = None) -> _Network:
    images = _Images()
    data = LoadedData(images, images, "images", Loading(_BATCH, parts), val_batch=1)  # type: ignore[arg-type]
    data._cached = True  # there are no files
    model = _Network()
    task = SegmentationTask(
        model,  # type: ignore[arg-type]
        "abc",
        Learning(partial(torch.optim.SGD, momentum=0.9), partial(poly, power=0.0, warmup_steps=0), _LR, 0.0, {}),
        encoder_lr_factor=1.0,
        val_images=0,
        loss=loss,
    )
    task.backbone = "backbone"
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        max_epochs=2,
        accumulate_grad_batches=parts,
        gradient_clip_val=clip,
        limit_val_batches=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, data)
    assert trainer.global_step == 2 * (_IMAGES // _BATCH)
    return model


def _one_of_two(rank: int, folder: Path, port: str, parts: int, clip: float | None, loss: nn.Module | None = None) -> None:
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=port, LOCAL_RANK=str(rank), NODE_RANK="0", WORLD_SIZE="2")
    model = _fit(parts, 2, clip, loss)
    if rank == 0:
        torch.save(model.state_dict(), folder / "weights.pt")


def _by_the_formula(
    clip: float | None, loss: nn.Module | None = None, parts: int = 1, turns: bool = False
) -> dict[str, Tensor]:
    """The steps written out: every image of a batch at once, one sum over one number; or the mean of its parts' own losses."""
    images, model = _Images(), _Network()
    optimizer = torch.optim.SGD(model.parameters(), lr=_LR, momentum=0.9)
    sampler = TrainSampler(images, 0, 1, 0, _BATCH)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order = [position for _, position in sampler]
        for first in range(0, _IMAGES - _BATCH + 1, _BATCH):
            total, labelled, batch, size = (
                torch.zeros((), dtype=torch.float64),
                0,
                order[first : first + _BATCH],
                _BATCH // parts,
            )
            for part in range(parts):  # processes take turns on the images, accumulated parts follow each other
                chosen = batch[part::parts] if turns else batch[part * size : (part + 1) * size]
                prediction, truth = model(images.images[chosen]), images.masks[chosen].long()
                enlarged = F.interpolate(prediction.auxiliary["half"], (6, 6), mode="bilinear")
                number = int((truth != VOID).sum())
                for scores, weight in ((prediction.scores, 1.0), (enlarged, 0.4)):
                    if loss is None:
                        total = total + weight * F.cross_entropy(scores, truth, ignore_index=VOID, reduction="sum")
                    else:
                        total = total + weight * number * loss(scores, truth)
                labelled += number
            optimizer.zero_grad()
            (total / labelled).backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
    return model.state_dict()


def _assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_accumulated_parts_make_the_steps_of_the_whole_batch(parts, clip):
    _assert_equal(_fit(parts, 1, clip).state_dict(), _by_the_formula(clip))


@pytest.mark.parametrize(
    ("loss", "divides"),
    [(CrossEntropy((5, 2, 1), 0.1, "enet"), True), (Focal(()), True), (Dice(()), False), (HardPixels((), 0.2, 0.3), False)],
    ids=lambda value: type(value).__name__,
)
def test_a_loss_over_pixels_knows_no_parts_and_any_other_is_the_mean_of_theirs_by_labelled_pixels(loss, divides):
    found = _fit(2, 1, None, loss).state_dict()
    _assert_equal(found, _by_the_formula(None, loss, parts=2))
    whole = _by_the_formula(None, loss)
    assert divides == all(torch.allclose(found[name], value, rtol=1e-10, atol=1e-12) for name, value in whole.items())


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2])
def test_two_processes_make_the_steps_of_one(tmp_path, parts):
    port = str(20000 + os.getpid() % 20000 + parts)
    start_processes(_one_of_two, (tmp_path, port, parts, 0.1), nprocs=2, start_method=SERVER.get_start_method())
    _assert_equal(torch.load(tmp_path / "weights.pt", weights_only=True), _by_the_formula(0.1))


@pytest.mark.slow
def test_two_processes_take_a_loss_that_is_no_sum_over_pixels_each_for_its_own_images(tmp_path):
    port = str(20000 + os.getpid() % 20000 + 3)
    start_processes(_one_of_two, (tmp_path, port, 1, None, Dice(())), nprocs=2, start_method=SERVER.get_start_method())
    found = torch.load(tmp_path / "weights.pt", weights_only=True)
    _assert_equal(found, _by_the_formula(None, Dice(()), parts=2, turns=True))


@pytest.mark.parametrize(("images", "batch"), [(437, 16), (437, 8), (40, 8), (9, 8)])
def test_an_epoch_hands_out_whole_batches_alone_and_the_same_images_to_any_number_of_processes(images, batch):
    numbers = range(images)
    steps = images // batch
    alone = [position for _, position in TrainSampler(numbers, 3, 1, 0, batch)]
    assert len(alone) == len({*alone}) == steps * batch
    for processes in (2, 4):
        shares = [[position for _, position in TrainSampler(numbers, 3, processes, rank, batch)] for rank in range(processes)]
        assert {len(share) for share in shares} == {steps * batch // processes}
        for step in range(steps):
            share = batch // processes
            together = {position for one in shares for position in one[step * share : (step + 1) * share]}
            assert together == {*alone[step * batch : (step + 1) * batch]}
