"""Classes that few images show: a column without them, and how many show each."""

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text
from numpy.typing import NDArray

from exfuse.analysis.figures import classes
from exfuse.analysis.formats import csv, markdown
from exfuse.analysis.frequent import ENOUGH, by_images
from exfuse.analysis.printed import printed
from exfuse.analysis.rendering import Rendering, check_study, render_study
from exfuse.analysis.table import build_table
from exfuse.analysis.texts import write_texts
from exfuse.metrics.iou import iou_per_class
from exfuse.reports.page.page import render_page
from exfuse.store.study_reading import load_study
from exfuse.terminal import Console
from tests.analysis.synthetic import IMAGES, StudyBuilder, make_counts
from tests.reports.page.conftest import data_of

SEEDS = (0, 1, 2)
RARE = 2  # the class "cart"


def shown_in(images: int):
    """Counts in which only the first images show a class, of which a run of little quality finds all, and the other nothing."""

    def counts(quality: float, seed: int) -> NDArray[np.int32]:
        found = make_counts(quality, seed)
        found[images:, RARE] = 0
        area, found[:, RARE] = found[:, RARE].sum(1), 0
        found[:, RARE, RARE + 1 if quality > 0.7 else RARE] = area
        for other in range(RARE):  # what else is called so would hide it
            found[:, other, other] += found[:, other, RARE]
            found[:, other, RARE] = 0
        return found

    return counts


def two_rows(folder: Path, images: int, **content: object) -> Path:
    builder = StudyBuilder(folder, **content)
    builder.row("baseline", 0.6, counts=shown_in(images))
    builder.row("seb", 0.8, options={"seb": "product"}, on="baseline", counts=shown_in(images))
    return builder.finish()


@pytest.mark.parametrize("images", [1, ENOUGH - 1])
def test_a_class_that_few_images_show_may_turn_the_score_and_a_column_is_without_it(tmp_path: Path, images: int) -> None:
    folder = two_rows(tmp_path / "study", images)
    study = load_study(folder)
    assert by_images(study) == (["background", "boat"], {"cart": images})
    table = build_table(study)
    baseline, seb = table.rows
    for row in (baseline, seb):
        runs = study.row(row["variant"].values["variant"]).runs.values()
        by_hand = [100 * iou_per_class(run.counts().sum(0).astype(np.int64))[:RARE].mean() for run in runs]
        assert row["frequent"].values["frequent"] == pytest.approx(statistics.fmean(by_hand))
    gained, lost = seb["frequent"].values["frequent_difference"], seb["difference"].values["difference"]
    assert gained > 10 > 0 > lost
    text = markdown.render([table])
    assert f"over the 2 classes that {ENOUGH} images or more show" in text
    assert f"images that show them: cart {images}." in text
    assert "all of these columns" in text
    assert "frequent_p_holm" in csv.render(table)
    rendering = Rendering(study)
    brief = " ".join(printed(study, rendering.tables[0], rendering.compared, ["variant", "frequent"]).brief)
    assert "all of these columns" in brief
    assert (
        "frequent" not in " ".join(printed(study, rendering.tables[0], rendering.compared, ["variant", "miou"]).brief).lower()
    )
    render_study(folder, Console(quiet=True))
    check_study(folder)


def test_the_figure_of_classes_says_how_many_images_show_a_rare_one(tmp_path: Path) -> None:
    figure = classes.draw(load_study(two_rows(tmp_path, 3)))
    labels = [label.get_text() for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis) for label in axis.get_ticklabels()]
    assert {"background", "boat", "cart (3)"} <= {*labels}
    assert "in brackets" in "".join(text.get_text() for text in figure.findobj(Text)).replace("\n", " ")


def test_a_page_says_so_too(tmp_path: Path) -> None:
    text = render_page(data_of(two_rows(tmp_path, 3)))
    assert '<th scope="col">cart (3)</th>' in text
    assert "In brackets: how many images show a class, where few do." in text


@pytest.mark.parametrize("images", [0, ENOUGH, IMAGES])
def test_classes_that_many_images_show_or_none_are_not_rare(tmp_path: Path, images: int) -> None:
    study = load_study(two_rows(tmp_path, images))
    assert by_images(study) is None
    assert all("frequent" not in row for row in build_table(study).rows)


def test_where_all_are_rare_there_is_nothing_to_leave_out(tmp_path: Path) -> None:
    builder = StudyBuilder(tmp_path)
    builder.row("baseline", 0.6, counts=lambda quality, seed: make_counts(quality, seed)[: ENOUGH - 1])
    assert by_images(load_study(builder.finish())) is None


def test_an_answer_says_where_it_is_decided_without_them(tmp_path: Path) -> None:
    two_rows(tmp_path / "study", 2)
    page = tmp_path / "page.md"
    page.write_text("<!-- answers of study -->\n<!-- end -->\n\n<!-- findings of study -->\n<!-- end -->\n")
    write_texts([tmp_path])
    assert "**frequent mIoU +" in page.read_text()
    assert "in parts of the classes for 1" in page.read_text()
    assert page.read_text().count(f"- Over the 2 classes that {ENOUGH} images or more show: **seb vs baseline +") == 2


def test_rows_scored_on_other_images_have_no_column_of_classes_that_only_some_of_them_show_often(tmp_path: Path) -> None:
    def other_images(content: dict[str, Any]) -> None:
        content["manifests"]["val"] = "c" * 64

    builder = StudyBuilder(tmp_path / "study", mixed=True)
    builder.row("baseline", 0.6, counts=shown_in(ENOUGH - 1))
    builder.row("seb", 0.8, options={"seb": "product"}, on="baseline", counts=shown_in(1), change=other_images)
    study = load_study(builder.finish())
    assert by_images(study) is None
    assert not any(column.key == "frequent" for column in build_table(study).columns)
