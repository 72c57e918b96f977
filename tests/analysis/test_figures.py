import itertools
import re
import statistics
import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from rich.console import Console

from exfuse.analysis import letters
from exfuse.analysis.comparisons import compare_rows
from exfuse.analysis.figures import classes, cost, ladder, style
from exfuse.analysis.frontier import apart, cost_axis
from exfuse.analysis.rendering import Rendering, render_figures, render_study
from exfuse.store.study import Study
from exfuse.store.study_reading import load_study
from tests.analysis.synthetic import StudyBuilder, make_counts
from tests.sharing import amount

FACTORS = ["seb", "dap"]


def factorial(folder: Path, **content: object) -> Path:
    builder = StudyBuilder(folder, factors=FACTORS, **content)
    for bits in itertools.product((0, 1), repeat=2):
        used = {name: option for (name, option), bit in zip((("seb", "product"), ("dap", "wide")), bits, strict=True) if bit}
        on = "baseline" if used else None
        status = {2: "failed"} if used == {"seb": "product"} else {}
        builder.row("_".join(used) or "baseline", 0.6 + 0.05 * sum(bits), options=used, on=on, status=status)
    return builder.finish()


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return load_study(factorial(tmp_path))


def drawn_texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in (*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels())]


def test_every_figure_is_written_twice_and_the_same_bytes_each_time(tmp_path):
    folder = factorial(tmp_path)
    render_study(folder, Console(quiet=True))
    names = sorted(path.name for path in folder.iterdir() if path.suffix in style.SUFFIXES)
    expected = [f"{name}{suffix}" for name in ("classes", "cost", "effects", "ladder") for suffix in (".png", ".svg")]
    assert names == expected
    before = {name: (folder / name).read_bytes() for name in names}
    render_study(folder, Console(quiet=True))
    assert {name: (folder / name).read_bytes() for name in names} == before
    for name in names:
        if name.endswith(".svg"):
            ElementTree.fromstring(before[name])
        else:
            assert np.asarray(Image.open(folder / name).convert("L")).std() > 5  # something is drawn


def test_figures_for_a_paper_have_its_widths_and_embed_their_letters(tmp_path):
    folder = factorial(tmp_path)
    every = amount([".svg", ".pdf"], [".svg", ".png", ".pdf"])  # test_every_figure_is_written_twice has the other
    written = render_figures(folder, every, list(style.WIDTHS))
    assert sorted({path.name for path in written}) == sorted(
        f"{name}{stem}{suffix}"
        for name in ("classes", "cost", "effects", "ladder")
        for stem in ("", "_column")
        for suffix in every
    )
    for path in written:
        if path.suffix == ".pdf":
            content = path.read_bytes()
            box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", content)
            assert box
            assert float(box[1]) / 72 == pytest.approx(3.3 if "_column" in path.name else 6.9, abs=0.01)
            assert b"/FontFile2" in content
            assert b"/Type3" not in content
    before = {path: path.read_bytes() for path in written}
    render_study(folder, Console(quiet=True))  # draws anew whatever was asked for once
    assert {path: path.read_bytes() for path in written} == before


def test_letters_of_every_figure_can_be_read_in_print(tmp_path):
    rendering = Rendering(load_study(factorial(tmp_path)))
    for draw in rendering.figures().values():
        for width in style.WIDTHS.values():
            figure = draw(width)
            texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
            sizes = {text.get_fontsize() for text in texts}
            assert min(sizes) >= 7
            assert max(sizes) <= 9


def test_one_class_does_not_set_the_scale_of_all():
    assert classes._scale(np.array([[1.0, -2.0], [0.5, np.nan], [30.0, 0.0]])) == 2.0
    assert classes._scale(np.array([[1.0, -2.0], [3.0, np.nan]])) == 2.0
    assert classes._scale(np.array([[1.0, -2.0], [2.4, np.nan]])) == 2.4
    assert classes._scale(np.array([[0.0, 0.0], [3.0, np.nan]])) == 3.0
    assert classes._scale(np.array([[0.0], [0.0]])) == 1.0


def test_figures_of_records_that_are_gone_go(tmp_path):
    builder = StudyBuilder(tmp_path)
    builder.row("baseline", 0.6, status=dict.fromkeys(range(3), "missing"))
    folder = builder.finish()
    (folder / "cost.svg").write_text("of an earlier day")
    render_study(folder, Console(quiet=True))
    assert sorted(path.name for path in folder.glob("*.[sp][vn]g")) == ["ladder.png", "ladder.svg"]


def test_ladder_shows_each_seed_the_mean_and_the_difference(study):
    comparisons = compare_rows(study)
    figure = ladder.draw(study, comparisons)
    left, right = figure.axes
    for place, row in enumerate(study.rows):
        scores = [100 * record.scores.miou for record in row.records.values()]
        dots, mean = (line for line in left.lines if place in line.get_ydata())
        assert list(dots.get_xdata()) == pytest.approx(scores)
        assert list(mean.get_xdata()) == pytest.approx([statistics.mean(scores)])
        if row.on:
            interval = comparisons[row.name].interval
            bar, dot = (line for line in right.lines[1:] if place in line.get_ydata())
            assert list(bar.get_xdata()) == pytest.approx([100 * interval.low, 100 * interval.high])
            assert list(dot.get_xdata()) == pytest.approx([100 * interval.estimate])
    assert "seb (2 of 3)" in drawn_texts(figure)
    assert left.get_xlabel() == "mIoU (%)"
    assert right.get_xlabel() == "difference in mIoU (points), 95 % interval"


def test_heat_map_shows_the_change_of_each_class_over_common_seeds(study):
    figure = classes.draw(study)
    shown = np.ma.filled(figure.axes[0].images[0].get_array().astype(float), np.nan)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        f"{row.name} vs baseline" for row in study.rows[1:]
    ]
    expected = []
    for row in study.rows[1:]:
        quality = 0.6 + 0.05 * len(row.name.split("_"))
        changes = []
        for seed in row.records:
            ours, base = (make_counts(one, seed).sum(0) for one in (quality, 0.6))
            iou = [
                [total[c, c] / (total[c].sum() + total[:, c].sum() - total[c, c]) for c in range(3)] for total in (ours, base)
            ]
            changes.append([100 * (a - b) for a, b in zip(*iou, strict=True)])
        expected.append(np.mean(changes, axis=0))  # the last class never occurs and is left out
    np.testing.assert_allclose(shown, expected)
    low, high = figure.axes[0].images[0].get_clim()
    assert low == -high == -np.nanmax(np.abs(expected))


@pytest.mark.parametrize("seed", range(5))
def test_labels_hide_neither_points_nor_each_other(seed):
    noise = np.random.default_rng(seed)
    figure = Figure(figsize=(7.5, 4.8))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    points = [(x, y, f"row_{place}_of_some_length") for place, (x, y) in enumerate(noise.normal(size=(10, 2)))]
    axes.plot(*zip(*((x, y) for x, y, _ in points), strict=True), "o")
    axes.margins(0.2)
    figure.draw_without_rendering()
    boxes = cost.label_points(figure, axes, points)
    assert len(boxes) == 10
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    centres = axes.transData.transform([(x, y) for x, y, _ in points])
    middles = [np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2]) for box in boxes]
    leaders = {tuple(text.xy) for text in axes.texts if not text.get_text()}
    led = [tuple(text.xy) in leaders for text in axes.texts if text.get_text()]
    assert sum(led) == len(leaders)
    for one, other in itertools.combinations([place for place in range(10) if led[place]], 2):
        assert not cost._cross(centres[one], middles[one][None], centres[other], middles[other])[0]
    for place, box in enumerate(np.array([box.extents for box in boxes])):  # without one, a label is nearest to its own point
        beyond = np.maximum(np.maximum(box[:2] - centres, centres - box[2:]), 0)
        assert led[place] or np.hypot(*beyond.T).argmin() == place
    assert not any(box.contains(*centre) for box in boxes for centre in centres)
    renderer = figure.canvas.get_renderer()
    names = [text for text in axes.texts if text.get_text()]
    for text, box in zip(names, boxes, strict=True):  # the boxes are where the labels are
        extent = text.get_window_extent(renderer)
        assert box.x0 <= extent.x0 + 1 <= extent.x1 - 1 <= box.x1
        assert box.y0 <= extent.y0 + 1 <= extent.y1 - 1 <= box.y1


def test_many_rows_bear_numbers_and_too_many_are_left_out(tmp_path):
    builder = StudyBuilder(tmp_path)
    for place in range(style.MOST_ROWS + 2):
        builder.row(f"row{place}", 0.6, (0,), on="row0" if place else None)
    study = load_study(builder.finish())
    figure = cost.draw(study)
    texts = drawn_texts(figure)
    assert "40" in texts
    assert "40  row39" in figure.get_supxlabel()
    assert "row40" not in figure.get_supxlabel()
    assert "(first 40 of 42 rows)" in figure.get_suptitle()
    assert "(first 40 of 42 rows)" in ladder.draw(study, {}).get_suptitle()


def test_a_dollar_in_a_name_is_a_dollar(tmp_path):
    builder = StudyBuilder(tmp_path, title="costs $1 and $2_x^")
    builder.row("a$b_{$c", 0.6)
    render_study(builder.finish(), Console(quiet=True))  # would not be mathematics


def test_letters_of_other_scripts_are_drawn_or_named_once_a_figure(tmp_path, monkeypatch, capsys):
    figure = Figure()
    with monkeypatch.context() as patched, warnings.catch_warnings():
        warnings.simplefilter("error")
        patched.setattr(letters, "families", lambda: ["DejaVu Sans"])
        with style.look():
            figure.text(0.1, 0.5, "基线 基线")
        style.save(figure, tmp_path / "ladder.png")
        told = capsys.readouterr().err
        assert told.count("基") == told.count("线") == 1
        assert "ladder.png: no font that is looked through has 基线" in told
    if len(letters.families()) == 1:
        pytest.skip("this machine has no font with Chinese letters")
    figure = Figure()
    with style.look():
        figure.text(0.1, 0.5, "基线")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        style.save(figure, tmp_path / "cost.png", [".png", ".svg", ".pdf"])
    assert not capsys.readouterr().err


def test_writing_figures_is_atomic(tmp_path, monkeypatch):
    folder = factorial(tmp_path)
    render_study(folder, Console(quiet=True))
    before = (folder / "ladder.svg").read_bytes()

    def break_off(self: Figure, path: Path, **_: object) -> None:
        Path(path).write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", break_off)
    with pytest.raises(KeyboardInterrupt):
        render_study(folder, Console(quiet=True))
    assert (folder / "ladder.svg").read_bytes() == before
    assert not list(folder.glob(".*"))


def test_rows_of_one_cost_and_score_stand_side_by_side_and_all_others_where_they_are():
    points = [(1.0, 7.0), (5.0, 7.0), (1.0, 7.1), (1.02, 6.95), (1.0, 9.0), (1.0, 3.0)]
    moved = apart(points, wide=0.1, high=0.2)
    assert moved[1] == 5.0
    assert moved[4:] == [1.0, 1.0]  # seen where they are: the score parts them
    near = sorted(moved[place] for place in (0, 2, 3))
    assert np.diff(near) == pytest.approx([0.1] * 2)
    assert statistics.mean(near) == pytest.approx(statistics.mean([1.0, 1.0, 1.02]))
    assert moved[3] == near[-1]
    assert apart([(0.5, 1.0), (0.7, 1.0)], 0.1, 0.2) == [0.5, 0.7]


@pytest.mark.parametrize("number", [2, 8, 30, 60])
@pytest.mark.parametrize(("cost", "axis"), [(10.0, (0.0, 11.2)), (0.1, (0.0, 11.2)), (0.0, (0.0, 11.2)), (11.2, (0.0, 11.2))])
@pytest.mark.parametrize("score", [0.0, 1.0])
def test_marks_at_one_place_stay_near_it_and_on_the_axis_however_many(number, cost, axis, score):
    wide = 0.3
    moved = apart([(cost, number * score * 1e-9)] * number, wide, 0.0 if score == 0 else 1.0, axis)
    assert len({*moved}) == number
    assert moved == sorted(moved)
    assert axis[0] < moved[0]
    assert moved[-1] < axis[1]
    assert max(abs(one - cost) for one in moved) <= 4.5 * wide


def test_a_cost_picture_names_rows_without_a_cost_and_draws_no_frontier_over_other_images(tmp_path):
    def other_images(content):
        content["manifests"]["val"] = "c" * 64

    def no_cost(content):
        content["costs"] = {}

    builder = StudyBuilder(tmp_path, mixed=True)
    builder.row("one", 0.6)
    builder.row("two", 0.7, on="one")
    builder.row("unknown", 0.8, on="one", change=no_cost)
    study = load_study(builder.finish())
    figure = cost.draw(study)
    assert "without unknown, whose cost is not known" in title_of(figure)
    assert "frontier" in [line.get_label() for line in figure.axes[0].lines]
    builder.row("elsewhere", 0.7, on="one", change=other_images)
    figure = cost.draw(load_study(builder.finish()))
    assert "scored on different images: no frontier" in title_of(figure)
    assert not [line.get_xdata() for line in figure.axes[0].lines if line.get_label() == "frontier" and len(line.get_xdata())]


def title_of(figure):
    return " ".join(figure.get_suptitle().split())


@pytest.mark.parametrize(
    ("costs", "axis"),
    [
        ((1.0, 4.0), (0.0, 4.48)),
        ((3.0, 4.0), (2.8, 4.12)),
        ((3.99, 4.0), (0.0, 4.48)),  # as good as one
        ((4.0,), (0.0, 4.48)),
        ((0.0,), (0.0, 1.0)),
    ],
)
def test_an_axis_of_costs_starts_at_zero_unless_that_presses_them_together(costs, axis):
    assert cost_axis(costs) == pytest.approx(axis)
