import re

import numpy as np

from exfuse.analysis.comparisons import compare_rows
from exfuse.analysis.figures import ladder
from exfuse.analysis.pictures import overlay
from exfuse.palette import VARIANTS, VOC_CLASSES, VOID, class_palette, variant_colours, voc_palette
from exfuse.reports.page.charts import css_variables, looks
from exfuse.reports.wandb_study import view_study
from exfuse.store.study_reading import load_study
from tests.analysis.synthetic import StudyBuilder


def test_palette_holds_the_colours_of_the_voc_devkit():
    palette = voc_palette()
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    devkit = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 4: (0, 0, 128), 7: (128, 128, 128), 8: (64, 0, 0)}
    devkit |= {15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {index: tuple(palette[index].tolist()) for index in devkit} == devkit


def test_no_two_ids_share_a_colour():
    assert len(np.unique(voc_palette(), axis=0)) == 256


def test_vocs_colours_are_for_voc_alone_and_others_are_told_apart():
    np.testing.assert_array_equal(class_palette(VOC_CLASSES), voc_palette())
    names = ["background", *"abcdefghijk"]
    shown = class_palette(names)[: len(names)].astype(int)
    assert (shown[0] < 50).all()
    apart = np.abs(shown[:, None] - shown[None]).sum(-1) + 999 * np.eye(len(names), dtype=int)
    assert apart.min() > 80
    np.testing.assert_array_equal(shown, class_palette(names)[: len(names)])


def test_an_overlay_leaves_background_and_void_as_they_are_and_colours_any_other_first_class():
    image, ids = np.full((1, 3, 3), 100, np.uint8), np.array([[0, 1, VOID]])
    for first, kept in (("background", [True, False, True]), ("sky", [False, False, True])):
        shown = overlay(image, ids, [first, "boat"])
        assert (shown == image).all(-1)[0].tolist() == kept


def test_grey_is_the_first_rows_alone():
    colours = variant_colours(20)
    assert colours[:7] == list(VARIANTS)
    assert VARIANTS[0] not in colours[1:]
    assert colours[7:13] == colours[1:7]


def test_a_variant_has_one_colour_on_the_page_in_figures_and_at_wandb(tmp_path):
    builder = StudyBuilder(tmp_path)
    for place in range(9):  # more than there are colours
        builder.row(f"row{place}", 0.6 + 0.02 * place, on="row0" if place else None)
    study = load_study(builder.finish())
    light = dict(re.findall(r"(--v\d+): (#\w+);", css_variables(dark=False)))
    page = [light[look.colour.removeprefix("var(").removesuffix(")")] for look in looks(study.rows).values()]
    wandb = [*view_study(tmp_path).colours.values()]
    comparisons = compare_rows(study)
    scores, differences = ladder.draw(study, comparisons).axes
    dots = [line.get_color() for line in scores.lines if len(line.get_xdata()) == 3]
    assert page == wandb == dots == variant_colours(9)
    for row in study.rows[1:]:  # a filled mark is decided after the correction, here as on the page
        marks = [line for line in differences.lines if list(line.get_ydata()) == [study.rows.index(row)]]
        assert {line.get_markerfacecolor() == line.get_color() for line in marks} == {comparisons[row.name].found}
    assert {one.found for one in comparisons.values()} == {True, False}
