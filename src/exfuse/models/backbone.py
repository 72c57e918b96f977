"""Encoders from timm: the maps of res-2..res-5."""

import difflib
import functools
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import timm
import torch
from timm.models import FeatureInfo
from torch import Tensor, nn
from torch.nn import functional as F

from exfuse.errors import ConfigError
from exfuse.models.upsample import cut
from exfuse.randomness import torch_seeded

Depths = tuple[int, ...] | None
_SIDES = (97, 130)  # of a trial image: no stride divides them
# How families whose attention knows one size are asked to take others; the first that the model has is taken.
_FLEXIBLE: tuple[dict[str, Any], ...] = ({}, {"strict_img_size": False}, {"dynamic_img_size": True})


class Backbone(nn.Module):
    """A timm encoder that returns its maps shallow to deep.

    What families do differently is read from timm or seen by passing the shapes of an image through: which of a model's
    features have which stride, whether channels stand last, and what an image's sides must be multiples of. An image of other
    sides is padded below and on the right with zeros, the mean colour, and its maps are cut.

    Args:
        name: a timm model with a feature per stride 4, 8, 16, 32.
        levels: which of res-2..res-5 to return; ends with 5.
        output_stride: 32 as in the paper, or 16 / 8 with dilated convolutions in the last stages.
        rearrange: LR, a function from the depths of res-2..res-5 (``None`` for an encoder without residual stages) to new
            ones with the same sum.
        arguments: further arguments of the timm model.
        inputs: channels of the images.

    Attributes:
        multiple: what the sides of its images are padded to multiples of.
        whole: names of the whole timm model's weights by those of ``features``, which some extractors rename.
        beyond: what the whole timm model has besides.
        undecayed: names of parameters that timm keeps from weight decay, besides those of one dimension.

    Shapes:
        input (B, inputs, H, W); output one (B, channels[i], ceil(H / reductions[i]), ceil(W / reductions[i])) map per level.

    Raises:
        ConfigError: if timm does not know the model or cannot make it like this, or the model has no such levels, takes images
            of one size alone, or has no residual stages to rearrange.
    """

    def __init__(
        self,
        name: str,
        levels: Sequence[int] = (2, 3, 4, 5),
        output_stride: int = 32,
        rearrange: Callable[[Depths], Depths] = lambda depths: depths,
        arguments: Mapping[str, Any] | None = None,
        inputs: int = 3,
    ) -> None:
        super().__init__()
        check_name(name)
        check_levels(levels)
        if output_stride not in (8, 16, 32):
            raise ConfigError(f"backbone.output_stride={output_stride}: expected 32, 16 or 8.")
        self.name, self.levels, self.output_stride, self.inputs = name, tuple(levels), output_stride, inputs
        self.arguments = dict(arguments or {})
        if inputs != 3:
            self.arguments["in_chans"] = inputs
        self.reductions = tuple(min(2**level, output_stride) for level in levels)
        try:
            self._set_depths(rearrange)
            stride = {} if output_stride == 32 else {"output_stride": output_stride}
            traits = _traits(name, json.dumps({**self.arguments, **stride}), self.reductions, inputs)
            self._layout = {"features_only": True, "out_indices": traits.indices, **self.arguments, **stride, **traits.more}
            self.features = self.create()
        except ConfigError:
            raise
        except Exception as error:  # each family of timm refuses in its own way
            raise ConfigError(
                f"backbone.name={name}: timm cannot make it with features res-{list(levels)}, output_stride={output_stride} "
                f"and arguments={self.arguments} ({type(error).__name__}: {error}). Change these or choose another backbone."
            ) from error
        info: FeatureInfo = self.features.feature_info  # type: ignore[assignment]  # timm sets it on every extractor
        self.channels: tuple[int, ...] = tuple(info.channels())
        self.multiple, self.whole, self.beyond = traits.multiple, traits.whole, traits.beyond
        self._channels_stand_last = _stand_last(self.features)
        self.undecayed = tuple(f"features.{key}" for key, whole in self.whole.items() if whole in traits.undecayed)

    def create(self, **extra: Any) -> nn.Module:
        """The timm feature extractor of this backbone's layout; ``pretrained=True`` asks the model hub for weights."""
        return timm.create_model(self.name, **self._layout, **extra)

    def _set_depths(self, rearrange: Callable[[Depths], Depths]) -> None:
        plain = _whole(self.name, json.dumps(self.arguments))
        stages = [getattr(plain, f"layer{stage}", None) for stage in range(1, 5)]
        # Other families (EfficientNet, ...) spend different multiply-adds on blocks of different stages.
        residual = all(isinstance(stage, nn.Sequential) for stage in stages)
        depths = tuple(len(stage) for stage in stages if stage is not None) if residual else None
        try:
            wanted = rearrange(depths)
        except ValueError as error:
            raise ConfigError(f"backbone.name={self.name}: {error}") from error
        if wanted != depths:
            self.arguments["layers"] = wanted

    def forward(self, image: Tensor) -> list[Tensor]:
        height, width = image.shape[-2:]
        if self.multiple > 1:
            image = F.pad(image, (0, -width % self.multiple, 0, -height % self.multiple))
        maps = self.features(image)
        if self._channels_stand_last:
            maps = [level.permute(0, 3, 1, 2) for level in maps]
        if self.multiple > 1:
            maps = [
                cut(level, (-(-height // stride), -(-width // stride)))
                for level, stride in zip(maps, self.reductions, strict=True)
            ]
        return maps


class _Traits(NamedTuple):
    """What a timm model shows by its shapes alone.

    Attributes:
        indices: of the wanted levels among its features.
        more: arguments by which it takes images of any size.
        multiple, whole, beyond: see `Backbone`.
        undecayed: by the whole model's names.
    """

    indices: tuple[int, ...]
    more: dict[str, Any]
    multiple: int
    whole: dict[str, str]
    beyond: frozenset[str]
    undecayed: frozenset[str]


@functools.cache
def _whole(name: str, arguments: str) -> nn.Module:
    """The timm model, of shapes alone: no memory, no random numbers."""
    with torch.device("meta"):
        return timm.create_model(name, **json.loads(arguments))


@functools.cache
def _traits(name: str, arguments: str, strides: tuple[int, ...], inputs: int) -> _Traits:
    given = json.loads(arguments)
    with torch.device("meta"):
        info: FeatureInfo = timm.create_model(name, features_only=True, **given).feature_info  # type: ignore[assignment]
    every = [feature["reduction"] for feature in info.info]
    indices: list[int] = []
    for stride in reversed(strides):  # of several features of one stride the deepest
        before = indices[0] if indices else len(every)
        indices = [next((place for place in range(before - 1, -1, -1) if every[place] == stride), -1), *indices]
    if -1 in indices:
        raise ConfigError(
            f"backbone.name={name} has strides {tuple(every)}; expected {strides} for its levels. Choose a backbone that has "
            "features of strides 4, 8, 16 and 32."
        )
    native = given.get("img_size", (timm.get_pretrained_cfg(name, allow_unregistered=True) or _Unknown).input_size[-1])
    multiples = [1, 2, 4, 8, 16, 32, 64, 128, *([native] if isinstance(native, int) else [])]
    # Some models ask for a value while they calculate, which shapes alone do not have.
    for device, more in itertools.product(("meta", "cpu"), _FLEXIBLE):
        try:
            with torch.device(device), torch_seeded(0):
                model = timm.create_model(name, features_only=True, out_indices=tuple(indices), **given, **more).eval()
        except TypeError:
            if not more:
                raise
            continue  # it has no such argument
        for multiple in multiples:
            if _takes(model, multiple, strides, inputs, device):
                plain = _whole(name, json.dumps({key: value for key, value in given.items() if key != "output_stride"}))
                known = {*plain.state_dict()}
                whole = {key: _whole_name(key, known) for key in model.state_dict()}
                undecayed = getattr(plain, "no_weight_decay", lambda: ())()
                beyond = frozenset(known - {*whole.values()})
                return _Traits(tuple(indices), more, multiple, whole, beyond, frozenset(undecayed))
    raise ConfigError(
        f"backbone.name={name} has no maps that fit images of any size: its attention, or convolutions that do not pad, are "
        f"made for {native} x {native} pixels, but crops and images that are scored have other sizes. Choose another backbone."
    )


class _Unknown:
    input_size = (3, 224, 224)


@torch.no_grad()
def _takes(model: nn.Module, multiple: int, strides: Sequence[int], inputs: int, device: str) -> bool:
    """Whether a model makes maps of the right sizes of an image whose sides are different multiples of ``multiple``."""
    height, width = (-(-side // multiple) * multiple for side in _SIDES)
    width += multiple * (height == width)
    try:
        maps = model(torch.zeros(1, inputs, height, width, device=device))
    except Exception:  # each family refuses in its own way
        return False
    places = (1, 2) if _stand_last(model) else (2, 3)
    sizes = [tuple(level.shape[place] for place in places) for level in maps]
    return sizes == [(-(-height // stride), -(-width // stride)) for stride in strides]


def _stand_last(features: nn.Module) -> bool:
    return str(getattr(features, "output_fmt", "NCHW")).upper().endswith("NHWC")


def _whole_name(key: str, known: set[str]) -> str:
    """What the whole timm model calls a weight of its extractor, which may have flattened ``stages.0`` or wrapped it all."""
    return next((name for name in _spellings(key) if name in known), key)


def _spellings(key: str) -> Iterator[str]:
    yield key
    yield key.removeprefix("model.")
    first, _, rest = key.partition(".")
    for place, letter in enumerate(first):
        if letter == "_":
            yield f"{first[:place]}.{first[place + 1 :]}.{rest}"


def image_channels(model: nn.Module) -> int:
    """Of the images that a model takes: those of its backbone; 3 for a model without one."""
    return next((module.inputs for module in model.modules() if isinstance(module, Backbone)), 3)


def check_name(name: str) -> None:
    """Refuse what is no model of timm's.

    Raises:
        ConfigError: naming the nearest ones.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3) or ["resnet50"]
        raise ConfigError(
            f"backbone.name={name}: timm has no such model. Did you mean {' or '.join(close)}? "
            "One of your own comes with --config-dir."
        )


def check_levels(levels: Sequence[int]) -> None:
    """Refuse what no decoder is fed with.

    Raises:
        ConfigError: if it is not the deepest of res-2 to res-5.
    """
    if list(levels) not in ([2, 3, 4, 5], [3, 4, 5], [4, 5], [5]):
        raise ConfigError(f"decoder.levels={list(levels)}: expected [2,3,4,5], [3,4,5], [4,5] or [5].")
