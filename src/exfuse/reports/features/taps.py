"""Read what enters and leaves a model's embedding slot, with hooks and through its call interface alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from exfuse.composition.reading import bands_of, photographs_upright
from exfuse.composition.segmentation import build_eval_transform
from exfuse.data.split import Split
from exfuse.data.transforms import EvalTransform
from exfuse.errors import CheckpointError, classes_text
from exfuse.models.segmenter import Segmenter
from exfuse.models.upsample import at_size
from exfuse.reports.features.sources import Source
from exfuse.runs.checkpoint import load_checkpoint
from exfuse.store.variants import techniques
from exfuse.terminal import Console

_TOLERANCE = 1e-3  # of the largest value: what float32 leaves between one order of multiplying and another


def load_sources(
    sources: Sequence[Source],
    classes: Sequence[str],
    split: Split | None,
    device: torch.device,
    of_study: bool,
    console: Console,
) -> Iterator[tuple[Source, Segmenter, EvalTransform]]:
    """Each run's model and transform, whose maps can be read.

    Args:
        sources: the runs.
        classes: that they have to score.
        split: whose classes they are; None for those of the first checkpoint.
        device: to run on.
        of_study: whether a run without a low-level map is left out and told, as long as others have one.
        console: where to tell.

    Raises:
        CheckpointError: if one cannot be used, scores others, has no low-level map, or was trained on images read otherwise.
    """
    found, read = False, None
    for source in sources:
        model, trained, known = load_checkpoint(source.checkpoint)
        reading = bands_of(trained.data), photographs_upright(trained.data)
        if reading != (read := read or reading):
            raise CheckpointError(
                f"{source.checkpoint} and {sources[0].checkpoint} were trained on images that were read in two ways: "
                "data.channels, data.range or data.orientation differ. Look at one of them at a time."
            )
        if known != list(classes):
            data = split.name if split else "the first checkpoint"
            raise CheckpointError(
                f"{source.checkpoint} scores {classes_text(known)} but {data} names {classes_text(classes)}. Choose "
                "checkpoints and data of the same classes."
            )
        if len(model.encoder.levels) > 1:  # type: ignore[arg-type]
            found = True
            own = [one.title for one in techniques() if one.place == "levels" and one.name in trained.technique]
            if own and "seb" not in trained.technique:
                same = f"{source.run.title} has no SEB, so its maps are the same before and after"
                said = f"{same}: what {' and '.join(own)} does to them later is not looked at here."
                console.print(said, soft_wrap=True, highlight=False)
            yield source, model.to(device), build_eval_transform(trained)
            continue
        problem = f"{source.checkpoint} feeds its decoder from res-5 alone: it has no low-level map."
        if not of_study or (source is sources[-1] and not found):
            raise CheckpointError(f"{problem} Choose a run with decoder=levels_2345.")
        console.print(f"Left out: {problem}", soft_wrap=True, highlight=False)


@dataclass(frozen=True)
class Tapped:
    """One low-level map of one image around SEB.

    Attributes:
        level: 2 for res-2.
        before, after: (C, h, w).
        kind: "factor" if SEB multiplies each element, "addend" if it adds to it, "none" if it leaves the map as it is.
        branch: (C, h, w), what multiplies or is added; None if nothing is. A fusion that mixes channels (`concat`) is given by
            what it adds to a map of zeros.
    """

    level: int
    before: Tensor
    after: Tensor
    kind: str
    branch: Tensor | None

    @property
    def name(self) -> str:
        """As in the paper, without the hyphen: res2."""
        return f"res{self.level}"

    def cpu(self) -> "Tapped":
        """The same in the CPU's memory."""
        branch = None if self.branch is None else self.branch.cpu()
        return replace(self, before=self.before.cpu(), after=self.after.cpu(), branch=branch)


@torch.inference_mode()
def tap(model: Segmenter, image: Tensor, size: tuple[int, int]) -> tuple[list[Tapped], Tensor]:
    """Run ``model`` on one image.

    Args:
        model: in evaluation mode.
        image: (3, H, W) on the model's device, float32, normalised.
        size: of the truth.

    Returns:
        Every level that has a higher one, shallow first, and the predicted ids (H', W') of ``size``.
    """
    seen: dict[str, list[Tensor]] = {}

    def keep(_: nn.Module, inputs: tuple[list[Tensor]], output: list[Tensor]) -> None:
        seen["before"], seen["after"] = list(inputs[0]), list(output)

    embedding = model.get_submodule("embedding")
    handle = embedding.register_forward_hook(keep)
    try:
        scores = model(image[None]).scores
    finally:
        handle.remove()
    levels: tuple[int, ...] = tuple(model.encoder.levels)  # type: ignore[arg-type]
    tapped = [_tapped(embedding, seen["before"], seen["after"], place, level) for place, level in enumerate(levels[:-1])]
    return tapped, at_size(scores, size)[0].argmax(0)


def _tapped(embedding: nn.Module, before: list[Tensor], after: list[Tensor], place: int, level: int) -> Tapped:
    low, fused = before[place], after[place]
    kind, branch = "none", None
    if not torch.equal(low, fused):
        # With the higher levels given, every elementwise option is gain * low + addend: probing with zeros and ones finds both.
        addend = _answer(embedding, before, place, torch.zeros_like(low))
        gain = _answer(embedding, before, place, torch.ones_like(low)) - addend
        multiplies = _close(gain * low, fused) and _close(addend, torch.zeros_like(addend))
        kind, branch = ("factor", gain[0]) if multiplies else ("addend", addend[0])
    return Tapped(level, low[0], fused[0], kind, branch)


def _answer(embedding: nn.Module, maps: list[Tensor], place: int, probe: Tensor) -> Tensor:
    return embedding([*maps[:place], probe, *maps[place + 1 :]])[place]


def _close(one: Tensor, other: Tensor) -> bool:
    scale = max(float(one.abs().max()), float(other.abs().max()))
    return float((one - other).abs().max()) <= _TOLERANCE * scale
