import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from exfuse.analysis.paper import VOC_CLASSES
from exfuse.store import variants
from tests.conftest import REPOSITORY


def test_the_papers_classes_are_those_of_the_voc_config():
    assert list(OmegaConf.load(REPOSITORY / "conf" / "data" / "parts" / "voc.yaml").classes) == VOC_CLASSES


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], variants.baseline()),
        (["+ablation=exfuse"], {technique.name: technique.paper for technique in variants.techniques()}),
    ],
)
def test_baseline_and_paper_are_what_the_configs_call_so(overrides, expected):
    """The baseline is what training takes by itself; the paper's model is the variant exfuse."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        choices = compose("train", overrides, return_hydra_config=True).hydra.runtime.choices
    assert {name: choices[f"technique/{name}"] for name in expected} == expected
