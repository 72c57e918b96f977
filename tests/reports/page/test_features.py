import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from exfuse.reports.page.page import render_page
from exfuse.store.features import FeatureIndex, find_features
from exfuse.store.study_reading import load_study
from tests.reports.page.conftest import data_of


@pytest.fixture
def with_features(study_folder: Path, tmp_path: Path) -> Path:
    """The made-up study with pictures of two seeds of one row, in one image."""
    folder = shutil.copytree(study_folder, tmp_path / "study")
    noise = np.random.default_rng(0)
    pictures, summary, runs = [], [], []
    (row,) = (row for row in load_study(folder).rows if row.name == "seb")
    for seed in (0, 1):
        common = {"run": row.runs[seed].folder.key, "row": "seb", "seed": seed, "level": "res2"}
        file = f"image0/{seed}.png"
        (folder / "features" / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 255, (90, 300, 3), dtype=np.uint8)).save(folder / "features" / file)
        pictures.append({**common, "image": "image0", "kind": "factor", "file": file, "statistics": {}})
        numbers = {"before": 1.25, "before_sd": 0.1, "after": 1.5 + seed, "after_sd": 0.1}
        unknown = dict.fromkeys(("ratio", "ratio_low", "ratio_high", "rises", "pooled_before", "pooled_after"))
        summary.append({**common, "statistic": "contrast", "images": 7, **numbers, **unknown})
        runs.append({"key": common["run"], "row": "seb", "seed": seed, "seb": "product"})
    index = {"schema": 1, "data": "generated scenes", "split": "val", "band": 5, "images": 7, "runs": runs, "overviews": []}
    made = msgspec.convert(index | {"pictures": pictures, "summary": summary}, FeatureIndex)
    msgspec.structs.replace(made, folder=folder / "features").write()
    return folder


def test_pictures_and_numbers_of_low_level_maps_are_in_the_page(visit, with_features, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(render_page(data_of(with_features)))
    page = visit(path)
    expect(page.locator("#features img")).to_have_count(2)
    assert page.locator("#features tbody td").all_inner_texts() == ["0", "res2", "1.25 → 1.50", "1", "res2", "1.25 → 2.50"]
    page.locator("#features img").first.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#features img').naturalWidth === 300")


def test_later_seeds_give_way_to_the_bound(with_features):
    whole = len(render_page(data_of(with_features)).encode())
    text = render_page(data_of(with_features, bound=whole - 5000))
    assert len(text.encode()) <= whole - 5000
    assert re.search(r"1 picture would have made this file too large", text)
    assert "seb, seed 0, res2" in text


def test_maps_of_runs_that_the_study_does_not_hold_are_left_out_and_counted(with_features):
    index = find_features(with_features)
    former = index.runs[1].key
    change = {former: "0123456789abcdef"}
    renamed = {
        name: tuple(msgspec.structs.replace(one, run=change.get(one.run, one.run)) for one in getattr(index, name))
        for name in ("pictures", "summary")
    }
    runs = tuple(msgspec.structs.replace(one, key=change.get(one.key, one.key)) for one in index.runs)
    msgspec.structs.replace(index, runs=runs, **renamed).write()
    text = render_page(data_of(with_features))
    assert "seb, seed 0, res2" in text
    assert "seb, seed 1, res2" not in text
    assert "Low-level maps of 1 run that the study does not hold are left out" in text
