"""A decoder, a head, a reader of data, a backbone and a loss of one's own, each as short as it can be."""

from pathlib import Path

from torch import nn
from torch.nn import functional as F

from exfuse.data.split import Item, make_split


class SumDecoder(nn.Module):
    """Every level made as wide as the scores by a 1x1 convolution, enlarged and added."""

    auxiliary_weight = 0.0  # of a loss on the first upsampling, as ECRE has it

    def __init__(self, levels, channels, reductions, width, first_upsampling):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(wide, width, 1) for wide in channels)

    def forward(self, maps, size):
        lateral = [convolution(each) for convolution, each in zip(self.lateral, maps, strict=True)]
        return sum(F.interpolate(each, size, mode="bilinear") for each in lateral), lateral[-1]


class ScaledHead(nn.Module):
    """The decoder's maps as scores, 1/temperature of them."""

    def __init__(self, classes: int, temperature: float = 1.0):
        super().__init__()
        self.decoder_channels, self.temperature = classes, temperature

    def forward(self, maps):
        return maps / self.temperature

    def auxiliary(self, maps):
        return maps / self.temperature


def read_pairs(root: str, split: str, classes: list[str]):
    """Images ``NAME.jpg`` beside their masks ``NAME_mask.png`` in a folder for each split."""
    images = sorted(Path(root, split).glob("*.jpg"))
    return make_split(
        f"pairs {split}", [Item(path.stem, path, path.with_name(f"{path.stem}_mask.png")) for path in images], classes
    )


class TinyNet(nn.Module):
    """Four stages of one convolution, of strides 4, 8, 16 and 32."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.channels = (width, 2 * width, 4 * width, 8 * width)
        self.stages = nn.ModuleList([nn.Conv2d(3, width, 7, 4, 3)])
        self.stages += [nn.Conv2d(wide, 2 * wide, 3, 2, 1) for wide in self.channels[:-1]]

    def forward(self, image):
        maps = []
        for stage in self.stages:
            image = stage(image).relu()
            maps.append(image)
        return maps


class Brier(nn.Module):
    """Mean squared distance of the softmax from the truth, over labelled pixels; ``counts`` are train's, by class."""

    def __init__(self, counts):
        super().__init__()

    def forward(self, scores, truth):
        labelled = truth != 255
        found = F.interpolate(scores, truth.shape[-2:], mode="bilinear").softmax(1)
        wanted = F.one_hot((truth * labelled).long(), scores.shape[1]).movedim(-1, 1)
        return ((found - wanted).square().sum(1) * labelled).sum() / labelled.sum().clamp(min=1)
