"""What hooks read of every option of SEB in the config tree."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from exfuse.composition.segmentation import build_model
from exfuse.errors import CheckpointError
from exfuse.models.segmenter import Segmenter
from exfuse.reports.features import taps
from exfuse.reports.features.sources import Source
from exfuse.reports.features.taps import tap
from exfuse.store.description import RunDescription
from exfuse.store.features import FeatureRun
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


def test_a_studys_run_without_a_low_level_map_is_left_out_while_others_have_one(
    compose_config: Callable[..., RunDescription], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = {}
    for name, decoder in (("deep", "levels_5"), ("usual", "levels_2345")):
        described = compose_config("backbone.init=random", f"decoder={decoder}")
        checkpoints[Path(name)] = build_model(described, 2), described, ["a", "b"]
    monkeypatch.setattr(taps, "load_checkpoint", checkpoints.__getitem__)
    monkeypatch.setattr(taps, "build_eval_transform", lambda _: None)
    deep, usual = (Source(FeatureRun(name, name, 0, "none"), Path(name)) for name in ("deep", "usual"))

    def load(sources: list[Source], of_study: bool) -> list[Source]:
        loaded = taps.load_sources(sources, ["a", "b"], None, torch.device("cpu"), of_study, Console())
        return [source for source, _, _ in loaded]

    assert load([deep, usual], of_study=True) == load([usual, deep], of_study=True) == [usual]
    assert "Left out: deep feeds its decoder from res-5 alone" in capsys.readouterr().out
    for sources, of_study in (([deep, usual], False), ([deep], True), ([deep, deep], True)):
        with pytest.raises(CheckpointError, match=r"deep feeds its decoder from res-5 alone.*decoder=levels_2345"):
            load(sources, of_study)


def test_runs_that_read_images_otherwise_are_not_looked_at_together(
    compose_config: Callable[..., RunDescription], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide, narrow = (
        compose_config("backbone.init=random", "data=folder", "data.root=x", f"data.range=[0,{top}]") for top in (9, 5)
    )
    model = build_model(wide, 2)
    monkeypatch.setattr(taps, "load_checkpoint", lambda path: (model, {"wide": wide, "narrow": narrow}[path.name], ["a", "b"]))
    monkeypatch.setattr(taps, "build_eval_transform", lambda _: None)
    sources = [Source(FeatureRun(name, name, 0, "none"), Path(name)) for name in ("wide", "narrow")]
    for chosen in ([sources[0]], [sources[1]]):
        assert len([*taps.load_sources(chosen, ["a", "b"], None, torch.device("cpu"), False, Console())]) == 1
    with pytest.raises(
        CheckpointError, match=r"narrow and wide were trained on images that were read in two ways: .*data\.range"
    ):
        [*taps.load_sources(sources, ["a", "b"], None, torch.device("cpu"), True, Console())]
