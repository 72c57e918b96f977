"""The one loop in which a model predicts image after image, and one val image with its truth and a prediction."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from exfuse.data.bands import as_rgb
from exfuse.data.segmentation import SegmentationDataset
from exfuse.memory import check_memory
from exfuse.metrics.iou import iou_per_class, pixel_accuracy
from exfuse.models.segmenter import Segmenter
from exfuse.palette import VOID
from exfuse.process import beat
from exfuse.tasks.confusion import check_decided
from exfuse.tasks.segmentation import predict_ids

WRONG = 254  # an id of error maps that no class has
Along = TypeVar("Along")
Size = tuple[int, int]


class EvaluationProtocol(Protocol):
    """How one image is decided: `exfuse.tasks.segmentation.predict_ids` looks once at its single scale; see also
    `exfuse.tasks.scoring`."""

    def __call__(self, model: Segmenter, image: Tensor, size: Size) -> Tensor:
        """Image (1, C, h, w) on the model's device, ids (1, H, W) int64 wanted at ``size``."""
        ...


@torch.inference_mode()
def predict(
    model: Segmenter,
    images: Iterable[tuple[Tensor, Size, Along]],
    device: torch.device,
    decide: EvaluationProtocol = predict_ids,
) -> Iterator[tuple[Tensor, Along]]:
    """Predict one image after the other, each on its own.

    Args:
        model: moved to ``device`` and left in evaluation mode.
        images: (C, h, w) or (1, C, h, w) as an `exfuse.data.transforms.EvalTransform` leaves them, the size (H, W) of what is
            wanted, and whatever goes along with it.
        device: where to predict.
        decide: the protocol, by default the single scale.

    Yields:
        Ids (H, W) uint8 on the CPU, and what went along. A GPU has the next image by the time that one's ids are waited for.

    Raises:
        UserError: if the network's scores are no numbers.
    """
    model.to(device).eval()
    before: tuple[_Copied, Along] | None = None
    fit: set[torch.Size] = set()  # looked at once: asking the system for its limits takes a tenth of counting
    for image, size, along in images:
        beat()
        batch = image if image.ndim == 4 else image[None]
        if batch.shape not in fit:
            check_view(*batch.shape[-2:])
            fit.add(batch.shape)
        ids = decide(model, batch.to(device, non_blocking=device.type == "cuda"), size)[0]  # type: ignore[arg-type]
        before, ready = (_Copied(ids.byte()), along), before
        if ready is not None:
            yield ready[0].wait(), ready[1]
    if before is not None:
        yield before[0].wait(), before[1]


class _Copied:
    """A copy of a tensor in the computer's memory, on its way there."""

    def __init__(self, tensor: Tensor) -> None:
        self.copy = tensor.to("cpu", non_blocking=tensor.is_cuda)  # only of CUDA it is known when it has ended
        self.done = torch.cuda.current_stream(tensor.device).record_event() if tensor.is_cuda else None

    def wait(self) -> Tensor:
        if self.done is not None:
            self.done.synchronize()
        check_decided(self.copy)
        return self.copy


def check_view(height: int, width: int) -> None:
    """Refuse an input of a network that no machine like this holds: pixels and the first map, of 64 channels at half the sides.

    Raises:
        ConfigError: naming its size.
    """
    advice = "Choose smaller scales, protocol=sliding, or scale the images down."
    check_memory(4 * (3 + 64 / 4) * height * width, f"A network's input of {width}x{height} pixels", advice)


class PredictedImage(NamedTuple):
    """A val image with its truth and a prediction.

    Attributes:
        id: of the image in its split.
        image: (H, W, 3) uint8, as people look at it.
        truth, prediction: (H, W) uint8 ids; 255 in the truth is void.
    """

    id: str
    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]

    def errors(self) -> NDArray[np.uint8]:
        """(H, W): `WRONG` where a labelled pixel is predicted wrongly, void elsewhere."""
        return np.where((self.truth != VOID) & (self.truth != self.prediction), WRONG, VOID).astype(np.uint8)

    def at_most(self, side: int) -> "PredictedImage":
        """Itself, or a copy whose longest side is ``side`` pixels; ids are never mixed."""
        factor = side / max(self.truth.shape)
        if factor >= 1:
            return self
        height, width = (max(1, round(length * factor)) for length in self.truth.shape)

        def shrink(pixels: NDArray[np.uint8], resampling: Image.Resampling) -> NDArray[np.uint8]:
            return np.asarray(Image.fromarray(pixels).resize((width, height), resampling))

        return PredictedImage(
            self.id,
            shrink(self.image, Image.Resampling.BILINEAR),
            shrink(self.truth, Image.Resampling.NEAREST),
            shrink(self.prediction, Image.Resampling.NEAREST),
        )

    def padded(self, height: int, width: int) -> "PredictedImage":
        """At the top left of a grey image of that size whose added pixels are void."""
        below, beside = height - self.truth.shape[0], width - self.truth.shape[1]

        def pad(ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
            return np.pad(ids, ((0, below), (0, beside)), constant_values=VOID)

        image = np.pad(self.image, ((0, below), (0, beside), (0, 0)), constant_values=128)
        return PredictedImage(self.id, image, pad(self.truth), pad(self.prediction))

    def scores(self, classes: Sequence[str]) -> dict[str, Any]:
        """``miou`` and ``pixel_accuracy`` in [0, 1] and the ``worst`` class of this image; None where all is void."""
        known = self.truth != VOID
        if not known.any():
            return {"miou": None, "pixel_accuracy": None, "worst": None}
        pairs = self.truth[known].astype(np.int64) * len(classes) + self.prediction[known]
        counts = np.bincount(pairs, minlength=len(classes) ** 2).reshape(len(classes), len(classes))
        iou = iou_per_class(counts)
        worst = classes[int(np.nanargmin(iou))]
        return {"miou": float(np.nanmean(iou)), "pixel_accuracy": float(pixel_accuracy(counts)), "worst": worst}


def predict_split(
    model: Segmenter,
    dataset: SegmentationDataset,
    positions: Iterable[int],
    device: torch.device,
    decide: EvaluationProtocol = predict_ids,
) -> Iterator[PredictedImage]:
    """Predict images of a split at their native size; see `predict`.

    Args:
        dataset: with an `exfuse.data.transforms.EvalTransform`.
        positions: which images, such as `exfuse.data.subsets.spread_evenly` gives.
    """
    split = dataset.split

    def images() -> Iterator[tuple[Tensor, Size, tuple[int, NDArray[np.uint8]]]]:
        for position in positions:
            truth = split.mask(position)
            yield dataset[position]["image"], truth.shape, (position, truth)  # type: ignore[misc]

    for ids, (position, truth) in predict(model, images(), device, decide):
        yield PredictedImage(split.items[position].id, as_rgb(split.image(position)), truth, ids.numpy())
