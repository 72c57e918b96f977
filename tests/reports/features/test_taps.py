"""What hooks read of every option of SEB in the config tree."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from exfuse.composition.segmentation import build_model
from exfuse.models.segmenter import Segmenter
from exfuse.reports.features.taps import tap
from exfuse.store.description import RunDescription
from tests.conftest import REPOSITORY

OPTIONS = sorted(path.stem for path in (REPOSITORY / "conf" / "technique" / "seb").glob("*.yaml"))
KINDS = {"product": "factor", "gate": "factor", "sum": "addend", "concat": "addend", "none": "none"}


def make(compose_config: Callable[..., RunDescription], option: str, *more: str) -> Segmenter:
    config = compose_config("backbone.init=random", f"technique/seb={option}", *more)
    model = build_model(config, 5).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # a fresh branch is nearly neutral: move it as training would
        for parameter in model.embedding.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.mark.parametrize("size", [(64, 64), (61, 83)])
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_tapped_where_it_stands(
    compose_config: Callable[..., RunDescription], option: str, size: tuple[int, int]
) -> None:
    model = make(compose_config, option)
    image = torch.randn(3, *size, generator=torch.Generator().manual_seed(1))
    tapped, ids = tap(model, image, (100, 90))
    with torch.inference_mode():
        levels = model.encoder(image[None])
        fused = model.embedding(levels)
    assert [one.name for one in tapped] == ["res2", "res3", "res4"]
    assert ids.shape == (100, 90)
    for one, low, after in zip(tapped, levels, fused, strict=False):
        torch.testing.assert_close(one.before, low[0])
        torch.testing.assert_close(one.after, after[0])
        assert one.kind == KINDS.get(option, one.kind)
        if one.kind == "none":
            assert torch.equal(one.before, one.after)
            assert one.branch is None
        else:
            assert one.branch is not None
            assert not torch.equal(one.before, one.after)
        if one.kind == "factor":
            torch.testing.assert_close(one.before * one.branch, one.after, rtol=1e-3, atol=1e-4)
        if option == "sum":
            torch.testing.assert_close(one.before + one.branch, one.after, rtol=1e-3, atol=1e-4)
    assert not model.embedding._forward_hooks


def test_the_products_factor_is_the_product_of_its_upsampled_guides(compose_config: Callable[..., RunDescription]) -> None:
    model = make(compose_config, "product")
    image = torch.randn(3, 64, 96, generator=torch.Generator().manual_seed(1))
    (_, res3, _), _ = tap(model, image, (64, 96))
    with torch.inference_mode():
        levels = model.encoder(image[None])
        expected = torch.ones_like(levels[1])
        for high in (4, 5):
            guide = model.embedding.guides[f"res{high}_to_res3"](levels[high - 2])
            expected = expected * torch.nn.functional.interpolate(guide, expected.shape[-2:], mode="bilinear")
    torch.testing.assert_close(res3.branch, expected[0], rtol=1e-3, atol=1e-4)


def test_fewer_levels_have_fewer_low_ones(compose_config: Callable[..., RunDescription]) -> None:
    model = make(compose_config, "product", "decoder=levels_45")
    tapped, _ = tap(model, torch.randn(3, 64, 64), (64, 64))
    assert [one.name for one in tapped] == ["res4"]


def test_every_option_has_a_known_kind_here() -> None:
    assert set(KINDS) >= set(OPTIONS), "say above whether the new option multiplies or adds"
    assert Path(REPOSITORY / "conf").is_dir()
