"""An encoder of somebody else's is tried once; whatever it gives instead of four maps is said in a line."""

import pytest
import torch
from torch import nn

from exfuse.errors import ConfigError
from exfuse.models.initialise import initialise
from exfuse.models.own_backbone import OwnBackbone


class Net(nn.Module):
    """Four maps of the right strides, spoilt as it is told."""

    def __init__(self, spoil: str = "") -> None:
        super().__init__()
        self.spoil, self.channels = spoil, 8 if spoil == "channels" else (8, 8, 8, 8)
        self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.late = nn.LazyConv2d(8, 1) if spoil == "lazy" else nn.Identity()
        self.stages = nn.ModuleList(nn.Conv2d(8, 8, 3, stride=2, padding=1) for _ in range(3))

    def get_extra_state(self) -> object:
        return {"steps": 0} if self.spoil == "state" else torch.zeros(())

    def set_extra_state(self, state: object) -> None:
        pass

    def forward(self, image: torch.Tensor) -> object:
        image -= 0.5  # in place, which is its own business
        if self.spoil == "sides" and image.shape[-1] % 32:
            raise RuntimeError("sides must be divisible by 32")
        maps = [self.stem(image)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        if self.spoil == "chance":
            maps[0] = nn.functional.dropout(maps[0])
        return {"dict": dict(enumerate(maps)), "none": None, "tensor": maps[-1], "few": maps[1:]}.get(self.spoil, maps)


def test_four_maps_are_taken() -> None:
    encoder = OwnBackbone(Net, "mine", levels=(3, 4, 5))
    assert encoder.channels == (8, 8, 8)
    assert [tuple(each.shape) for each in encoder(torch.zeros(1, 3, 64, 96))] == [(1, 8, 8, 12), (1, 8, 4, 6), (1, 8, 2, 3)]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("dict", r"in a dict, which is no list of tensors"),
        ("none", r"in a NoneType, which is no list of tensors"),
        ("tensor", r"in a Tensor, which is no list of tensors"),
        ("few", r"expected four maps"),
        ("lazy", r"late\.weight has no size before its first image"),
        ("state", r"_extra_state is no tensor, and files of weights hold tensors alone"),
        ("chance", r"that differ each time, of one image in evaluation mode"),
        ("channels", r"says channels=8; expected four maps"),
        ("sides", r"stops at an image of 65x97 \(RuntimeError: sides must be divisible by 32\); expected .* any size"),
    ],
)
def test_what_gives_something_else_is_refused(spoil: str, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"backbone=mine.*{says}"):
        OwnBackbone(Net, "mine", arguments={"spoil": spoil})


class Hooked(Net):
    """Collects its maps by hooks, which in a copy still write to what they were made with."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[torch.Tensor] = []
        for stage in (self.stem, *self.stages):
            stage.register_forward_hook(lambda _, __, maps: self.found.append(maps))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        self.found.clear()
        super().forward(image)
        return [self.found[place] for place in range(4)]


def test_maps_may_be_collected_by_hooks() -> None:
    encoder = OwnBackbone(Hooked, "mine", levels=(2, 3, 4, 5))
    assert len(encoder(torch.zeros(1, 3, 64, 96))) == 4
    assert all(module.training for module in encoder.modules())


class Weighed(Net):
    """Brings weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.stem.weight, 0.25)


def test_what_an_encoder_starts_with_stays() -> None:
    model = nn.ModuleDict({"backbone": OwnBackbone(Weighed, "mine")})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    initialise(model, 0, "backbone")
    assert (model["backbone"].features.stem.weight == 0.25).all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
