"""The model: one forward through slots that are always filled, one or more techniques in each place."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from exfuse.errors import ConfigError
from exfuse.models.initialise import initialise
from exfuse.models.places import Filled, check_auxiliary, check_places, fill
from exfuse.randomness import all_seeded, derive_seed, torch_seeded
from exfuse.store.variants import names, techniques

# what a technique's module is called where not `technique_NAME`: checkpoints and the seeds of weights go by it
_MODULES = {"seb": "embedding"}
BACKBONE = "encoder.backbone"


class Prediction(NamedTuple):
    """Scores before softmax, (B, C, H, W), and auxiliary ones by name, (B, C, h, w); the latter only in training."""

    scores: Tensor
    auxiliary: dict[str, Tensor]


class Segmenter(nn.Module):
    """Encoder (LR shapes it, SS decides where it is tapped) -> SEB -> decoder (ECRE is its first step) -> DAP.

    Fused and accelerated models are this one with other modules in its slots, see `exfuse.fusing`.

    Args:
        encoder: from an image to one map per level, shallow to deep.
        levels: modules between encoder and decoder, by name in their order: one map per level in and out.
        decoder: from these maps and the image's (H, W) to maps of that size, and what its first upsampling gives.
        head: from the decoder's maps to scores; its ``auxiliary`` makes scores of the first upsampling's.
        scores: modules behind the head, by name in their order: scores in and out.

    Attributes:
        pretrained: names of the submodules and parameters that another training has taught, which learn at the encoder's rate:
            the backbone, what came with its weights, and what slots name in ``pretrained_parts``.

    Shapes:
        input (B, channels, H, W) of any size, 3 of RGB; output a `Prediction` at that size.
    """

    def __init__(
        self,
        encoder: nn.Module,
        levels: Mapping[str, nn.Module],
        decoder: nn.Module,
        head: nn.Module,
        scores: Mapping[str, nn.Module],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        for name, module in levels.items():
            self.add_module(name, module)
        self.decoder, self.head = decoder, head
        for name, module in scores.items():
            self.add_module(name, module)
        self.on_levels, self.on_scores = tuple(levels), tuple(scores)
        weight: float = decoder.auxiliary_weight  # type: ignore[assignment]
        self.auxiliary_weights = {"ecre": weight} if weight > 0 else {}
        self.pretrained = {BACKBONE, *_named_pretrained(self)}

    def forward(self, image: Tensor) -> Prediction:
        size = image.shape[-2], image.shape[-1]
        levels = self.encoder(image)
        for name in self.on_levels:
            levels = getattr(self, name)(levels)
        maps, first = self.decoder(levels, size)
        scores = self.head(maps)
        for name in self.on_scores:
            scores = getattr(self, name)(scores)
        auxiliary = self.auxiliary_weights if self.training else {}
        return Prediction(scores, {name: self.head.auxiliary(first) for name in auxiliary})  # type: ignore[operator]


def _named_pretrained(model: nn.Module) -> set[str]:
    """What modules of any slot call pretrained: parts by name, or with an empty name all of themselves."""
    return {
        f"{name}.{part}".strip(".")
        for name, module in model.named_modules()
        for part in getattr(module, "pretrained_parts", ())
    }


def build_segmenter(
    backbone: Callable[..., nn.Module],
    decoder: Callable[..., nn.Module],
    options: Mapping[str, Callable[..., Any]],
    classes: int,
    seed: int,
) -> Segmenter:
    """Fill the slots, each option given as a callable that still waits for what the others decide.

    What is asked of an option depends on where its technique acts, which `exfuse.store.variants.Technique.place` says:

    - ``blocks`` (LR): ``option(depths)`` gives the depths of res-2..res-5;
    - ``features`` (SS): ``option(backbone)`` gives the encoder, with ``levels``, ``channels``, ``reductions`` and ``backbone``;
    - ``levels`` (SEB, and any number of others): ``option(channels=, levels=)`` gives a module from one map per level to as
      many of the same shapes;
    - ``upsampling`` (ECRE): ``option(channels=, scale=)`` gives the decoder's first upsampling, with ``auxiliary_weight``;
    - ``head`` (DAP): ``option(classes=)`` gives the head, with ``decoder_channels`` and ``auxiliary``;
    - ``scores`` (any number): ``option(classes=)`` gives a module from scores to scores.

    A module of any of them may bring weights of another training: those of its parts that it names in an attribute
    ``pretrained_parts`` (``("",)`` for all of it) stay as they are and learn at the encoder's rate.

    Args:
        backbone: makes the encoder from ``rearrange=`` and ``levels=``.
        decoder: makes the decoder; its keyword ``levels`` says which of res-2..res-5 are used.
        options: one of each technique that the model has, by the technique's name.
        classes: number of classes C.
        seed: of the random weights. A module of the same name and shape starts the same in every variant.

    Raises:
        ConfigError: if an option belongs to no technique of the table, or the places that take one do not have one.
    """
    if unknown := options.keys() - set(names()):
        name = min(unknown)
        raise ConfigError(f"technique/{name}: no slot/{name}.yaml describes it. Add its folder with --config-dir.")
    placed = [technique for technique in techniques() if technique.name in options]
    foreign: list[Filled] = []

    def several(place: str) -> dict[str, Callable[..., Any]]:
        here = [technique.name for technique in placed if technique.place == place]
        return {
            _MODULES.get(name, f"technique_{name}"): partial(fill, foreign, seed, place, f"technique/{name}", options[name])
            for name in here
        }

    def one(place: str) -> Callable[..., Any]:
        here = [f"technique/{technique.name}" for technique in placed if technique.place == place]
        if len(here) != 1:
            raise ConfigError(
                f"place: {place} takes one technique, but {' and '.join(here) or 'none'} would stand there. "
                "See place: in slot/*.yaml; levels and scores take several."
            )
        return next(iter(several(place).values()))

    settings = decoder.keywords if isinstance(decoder, partial) else {}
    if "levels" not in settings:
        raise ConfigError(
            "decoder: its file says neither which of res-2 to res-5 it reads nor waits for their maps. Give it levels: "
            "[2, 3, 4, 5], or fewer, and _partial_: true. See docs/extend.md."
        )
    levels = tuple(settings["levels"])
    with all_seeded(derive_seed(seed, "weights", BACKBONE)):  # some of timm's parameters are drawn here and nowhere else
        taps = backbone(levels=levels, rearrange=one("blocks"))
    its_own = {*map(id, taps.modules())}
    encoder = one("features")(taps)
    head = one("head")(classes=classes)
    model = Segmenter(
        encoder,
        {name: option(channels=encoder.channels, levels=encoder.levels) for name, option in several("levels").items()},
        fill(
            foreign,
            seed,
            "decoder",
            "decoder",
            decoder,
            channels=encoder.channels,
            reductions=encoder.reductions,
            width=head.decoder_channels,
            first_upsampling=one("upsampling"),
        ),
        head,
        {name: option(classes=classes) for name, option in several("scores").items()},
    )
    if next((name for name, module in model.named_modules() if module is taps), BACKBONE) != BACKBONE:
        raise ConfigError(
            "place: features wants a module whose first name for the encoder is backbone (self.backbone = ...): by it the "
            "encoder learns at its own rate. See docs/extend.md."
        )
    made = [part for filled in foreign for part in filled.module.modules() if id(part) not in its_own]
    initialise(model, seed, BACKBONE, _named_pretrained(model), made)
    check_auxiliary(model, *(f"technique/{technique.name}" for technique in placed if technique.place == "head"))
    if foreign:
        with torch_seeded(seed, "places"):
            check_places(model, classes, foreign)
    return model


class ScoresAlone(nn.Module):
    """The scores alone: (B, channels, H, W) -> (B, C, H, W)."""

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return self.model(image).scores
