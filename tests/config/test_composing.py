"""A row of a sweep is composed once for all its seeds, unless what was typed makes the seed another."""

from types import SimpleNamespace

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from exfuse.config.composing import compose_each_job_once

HYDRA = "hydra: {overrides: {task: []}, job: {override_dirname: '', config: {override_dirname: {kv_sep: '=', item_sep: ',', "


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], [0, 1, 1]),
        (["++seed=5"], [5, 5, 5]),
        (["recipe=demo", "seed=7"], [7, 7, 7]),  # the last one typed counts
    ],
)
def test_a_row_is_composed_once_for_all_seeds(more: list[str], expected: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    composed = list[list[str]]()

    def compose(_: object, words: list[str]) -> object:
        composed.append(words)
        seed = [word for word in words if word.lstrip("+").startswith("seed=")][-1].partition("=")[2]
        config = OmegaConf.create(HYDRA + "exclude_keys: []}}}}")
        config.seed = int(seed)
        return config

    loader = SimpleNamespace(load_sweep_config=compose)
    monkeypatch.setattr(GlobalHydra.instance(), "config_loader", lambda: loader, raising=False)
    compose_each_job_once()
    jobs = [["+ablation=seb", f"seed={seed}", *more] for seed in (0, 1)]
    found = [loader.load_sweep_config(None, job) for job in [*jobs, jobs[1]]]
    assert [config.seed for config in found] == expected
    OmegaConf.set_readonly(found[2], True)  # as Hydra does while a job runs
    assert not OmegaConf.is_readonly(loader.load_sweep_config(None, jobs[1]))
    assert len(composed) == (1 if not more else 2)
