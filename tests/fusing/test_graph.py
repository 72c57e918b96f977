import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.fx.proxy import TraceError
from torch.nn import functional as F

from exfuse.fusing.convolution import FusedConvolution, PackedConvolution
from exfuse.fusing.graph import fuse_graph

KINDS = [FusedConvolution, PackedConvolution]


def convolution(channels=4, **arguments):
    return nn.Conv2d(channels, channels, 3, padding=1, **arguments)


class Residual(nn.Module):
    """The shortcut on the left or right, added anew or in place."""

    def __init__(self, add, act=True):
        super().__init__()
        self.first, self.norm, self.second, self.after = convolution(), nn.BatchNorm2d(4), convolution(bias=False), None
        self.add, self.act = add, act

    def forward(self, maps):
        hidden = F.relu(self.norm(self.first(maps)))
        total = self.add(self.second(hidden), maps)
        return F.relu(total) if self.act else total


def in_place(result, shortcut):
    result += shortcut
    return result


class Shared(nn.Module):
    """One convolution called twice, another's result used twice, a norm behind an activation: none may be folded."""

    def __init__(self):
        super().__init__()
        self.twice, self.used_twice, self.norm = convolution(), convolution(), nn.BatchNorm2d(4)

    def forward(self, maps):
        result = self.used_twice(self.twice(self.twice(maps)))
        return self.norm(result) + F.relu(result) + 1


class IntoShortcut(nn.Module):
    """Adds in place into a map that is read again."""

    def __init__(self):
        super().__init__()
        self.first, self.second = convolution(), convolution()

    def forward(self, maps):
        shortcut = self.first(maps)
        shortcut += self.second(shortcut)
        return shortcut * 2


class Context(nn.Module):
    """A map of one value a channel added to a whole one, as in attention over all places."""

    def __init__(self):
        super().__init__()
        self.squeezed = nn.Conv2d(4, 4, 1)

    def forward(self, maps):
        return F.relu(maps + self.squeezed(maps.mean((2, 3), keepdim=True)))


MODULES = {
    "added": (lambda: Residual(lambda result, shortcut: result + shortcut), 2),
    "added on the left": (lambda: Residual(lambda result, shortcut: shortcut + result), 2),
    "added in place": (lambda: Residual(in_place), 2),
    "added, no activation": (lambda: Residual(lambda result, shortcut: shortcut + result, act=False), 2),
    "norm with its activation": (lambda: nn.Sequential(convolution(bias=False), BatchNormAct2d(4), convolution()), 2),
    "relu6": (lambda: nn.Sequential(convolution(), nn.ReLU6(), nn.Dropout(), convolution(), nn.ReLU(inplace=True)), 2),
    "unknown activation": (lambda: nn.Sequential(convolution(), nn.SiLU(), convolution()), 2),
    "grouped, strided, dilated": (lambda: nn.Sequential(convolution(groups=4, stride=2, dilation=2), nn.BatchNorm2d(4)), 1),
    "shared": (Shared, 1),
    "into the shortcut": (IntoShortcut, 2),
    "of another shape": (Context, 1),
}


def with_statistics(module):
    torch.manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.running_mean, norm.weight, norm.bias):
                nn.init.uniform_(tensor, 0.5, 1.5)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    return module.eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODULES)
@torch.no_grad()
def test_a_fused_graph_says_what_its_module_says(name, kind):
    make, fused_convolutions = MODULES[name]
    module, maps = with_statistics(make()), torch.randn(2, 4, 7, 9)
    expected = module(maps.clone())
    fused = fuse_graph(module, kind)
    torch.testing.assert_close(fused(maps.clone()), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(module(maps.clone()), expected, rtol=0, atol=0)  # itself unchanged
    assert sum(isinstance(part, kind) for part in fused.modules()) == fused_convolutions


@torch.no_grad()
def test_what_stands_behind_a_convolution_is_joined_with_it():
    fused = fuse_graph(with_statistics(Residual(torch.add)), FusedConvolution)
    calls = [node for node in fused.graph.nodes if node.op not in ("placeholder", "output")]
    assert [node.target for node in calls] == ["first", "second"]
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fused.modules())


@torch.no_grad()
def test_a_packed_convolution_takes_one_size_after_another():
    plain = convolution()
    packed = PackedConvolution(plain, nn.ReLU())
    for size in ((8, 8), (5, 9), (1, 1), (8, 8)):
        maps = torch.randn(2, 4, *size)
        torch.testing.assert_close(packed(maps, maps), F.relu(plain(maps) + maps), rtol=1e-5, atol=1e-5)


def test_a_module_whose_hooks_take_part_is_not_traced():
    hooked = nn.Sequential(convolution(), nn.ReLU())
    hooked[0].register_forward_hook(lambda *_: None)
    with pytest.raises(TraceError, match="0 has hooks"):
        fuse_graph(hooked, FusedConvolution)


def test_convolutions_that_the_cpu_library_does_not_know_are_not_packed():
    assert PackedConvolution.fits(convolution(), nn.ReLU())
    assert not PackedConvolution.fits(convolution(), nn.SiLU())
    assert not PackedConvolution.fits(convolution(padding_mode="reflect"))
    assert not PackedConvolution.fits(nn.Conv2d(4, 4, 3, padding="same"))
    assert not PackedConvolution.fits(convolution().double())
