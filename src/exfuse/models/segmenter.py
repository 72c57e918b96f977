"""The model: five slots that are always filled, one per technique."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from exfuse.models.decoder import Decoder
from exfuse.models.initialise import initialise


class Prediction(NamedTuple):
    """Scores before softmax, (B, C, H, W), and auxiliary ones by name, (B, C, h, w); the latter only in training."""

    scores: Tensor
    auxiliary: dict[str, Tensor]


class Segmenter(nn.Module):
    """Encoder (LR shapes it, SS decides where it is tapped) -> SEB -> decoder (ECRE is its first step) -> DAP.

    Shapes:
        input (B, 3, H, W) of any size; output a `Prediction` at that size.
    """

    def __init__(self, encoder: nn.Module, embedding: nn.Module, decoder: Decoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.embedding, self.decoder, self.head = encoder, embedding, decoder, head
        self.auxiliary_weights = {"ecre": decoder.auxiliary_weight} if decoder.auxiliary_weight > 0 else {}

    def forward(self, image: Tensor) -> Prediction:
        levels = self.encoder(image)
        levels = self.embedding(levels)
        if not self.training:
            maps, _ = self.decoder(levels, image.shape[-2:])
            return Prediction(self.head(maps), {})
        # The same function; a linear head composes itself with the decoder's last layers.
        last, first = self.decoder.until_last(levels, image.shape[-2:])
        scores = self.decoder.run(self.head.finish, last)
        auxiliary = {name: self.head.auxiliary(first) for name in self.auxiliary_weights}  # type: ignore[operator]
        return Prediction(scores, auxiliary)


def build_segmenter(
    backbone: Callable[..., nn.Module],
    decoder: Callable[..., Decoder],
    lr: Callable[[tuple[int, ...]], tuple[int, ...]],
    ss: Callable[..., nn.Module],
    seb: Callable[..., nn.Module],
    ecre: Callable[..., nn.Module],
    dap: Callable[..., nn.Module],
    classes: int,
    seed: int,
) -> Segmenter:
    """Fill the slots, each option given as a callable that still waits for what the others decide.

    Args:
        backbone: makes the encoder from ``rearrange=`` and ``levels=``.
        decoder: makes the decoder; its keyword ``levels`` says which of res-2..res-5 are used.
        lr, ss, seb, ecre, dap: one option of each technique.
        classes: number of classes C.
        seed: of the random weights. A module of the same name and shape starts the same in every variant.
    """
    levels = tuple(decoder.keywords["levels"])  # type: ignore[attr-defined]  # a functools.partial
    encoder = ss(backbone(levels=levels, rearrange=lr))
    embedding = seb(channels=encoder.channels, levels=encoder.levels)
    head = dap(classes=classes)
    model = Segmenter(
        encoder,
        embedding,
        decoder(
            channels=encoder.channels,
            reductions=encoder.reductions,
            width=head.decoder_channels,
            first_upsampling=ecre,
        ),
        head,
    )
    initialise(model, seed, "encoder.backbone")
    return model
