import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from exfuse.analysis.comparisons import compare_rows, effects_of
from exfuse.analysis.effects import FactorialEffects
from exfuse.analysis.formats import csv
from exfuse.analysis.rendering import Rendering, check_study
from exfuse.analysis.resampling import Resampled
from exfuse.analysis.table import build_table
from exfuse.errors import UserError
from exfuse.metrics.means import Means
from exfuse.reports.page.data import PageData
from exfuse.reports.page.page import render_page
from exfuse.reports.wandb_study import view_study
from exfuse.runs import asked
from exfuse.runs.summary import summarise
from exfuse.store.study import Study
from exfuse.store.study_reading import load_study
from tests.analysis.synthetic import StudyBuilder
from tests.importing.writing import (
    DICE,
    IMAGES,
    import_folder,
    scores,
    table_lines,
    write_counts,
    write_run,
    write_scores,
    write_study_file,
)

SEB, BOTH = {"seb": "product"}, {"seb": "product", "dap": "wide"}
EXFUSE = re.compile(r"\b(exfuse|gcn|ss|lr|ecre|seb|dap)\b", re.IGNORECASE)


def native(folder: Path) -> Path:
    """A study of this project with every number that its table shows."""
    builder = StudyBuilder(folder, claims=[{"row": "both", "lies": "above", "of": ["baseline", "seb"]}])
    builder.row("baseline", 0.6)
    builder.row("seb", 0.63, options=SEB, on="baseline")
    builder.row("both", 0.7, options=BOTH, on="seb")
    return builder.finish()


def exported(study: Study, folder: Path) -> Path:
    """The same runs as another project would write them."""
    first = study.done()[0][2]
    claims = [{"row": claim.row, "lies": claim.lies, "of": claim.of} for claim in study.claims]
    rows = {row.name: row.on for row in study.rows}
    write_study_file(folder, title=study.title, data=first.data, classes=first.classes, rows=rows, claims=claims)
    for row, seed, record in study.done():
        path = write_run(folder, row.name, seed, {"options": row.options}, parameters=record.parameters)
        run = row.runs[seed]
        np.savez(path.with_suffix(".npz"), counts=run.counts(), ids=run.image_ids())
    return folder


def test_the_same_runs_imported_give_the_same_numbers_cell_by_cell(tmp_path):
    ours = load_study(native(tmp_path / "native"))
    theirs = import_folder(exported(ours, tmp_path / "files"), tmp_path / "imported")
    tables = [build_table(study) for study in (ours, theirs)]
    shared = [column.key for column in tables[1].columns if column.key in {one.key for one in tables[0].columns}]
    assert shared == ["variant", "miou", "seeds", "difference", "p", "parameters"]
    for one, other in zip(tables[0].rows, tables[1].rows, strict=True):
        for key in shared:
            assert (one[key].text, one[key].values, one[key].strong) == (other[key].text, other[key].values, other[key].strong)
    assert Rendering(ours).compared.claims == Rendering(theirs).compared.claims
    assert [record.scores.iou for _, _, record in ours.done()] == [record.scores.iou for _, _, record in theirs.done()]


def test_counts_areas_and_rates_are_one_and_the_same(tmp_path):
    found = []
    for form in ("counts", "areas", "rates"):
        folder = tmp_path / form
        for row, quality in (("plain", 0.6), ("wide", 0.7)):
            for seed in (0, 1):
                path = write_counts(folder, row, seed, quality).with_suffix(".npz")
                with np.load(path) as arrays:
                    counts, ids = arrays["counts"].astype(float), arrays["ids"]
                hit, true, predicted = np.diagonal(counts, axis1=1, axis2=2), counts.sum(2), counts.sum(1)
                areas = {"hit": hit, "true": true, "predicted": predicted}
                rates = {"tp": hit, "fp": predicted - hit, "fn": true - hit, "tn": hit}
                if form != "counts":
                    order = np.random.default_rng(seed).permutation(len(ids))  # whatever order a loader had
                    chosen = areas if form == "areas" else rates
                    np.savez(path, ids=ids[order], **{name: values[order] for name, values in chosen.items()})
        study = import_folder(folder, tmp_path / f"study_{form}", name="same", title="same")
        found.append([[(cell.text, cell.values) for cell in line] for line in build_table(study).cells()])
    order_matters_not = [[[cell[0] for cell in line] for line in table] for table in found]
    assert order_matters_not[1] == order_matters_not[2]
    assert [line[1] for line in found[0]] == [line[1] for line in found[1]]  # scores are the counts' own


def scored(tmp_path: Path, drawn: bool = False) -> Study:
    folder = tmp_path / "files"
    write_study_file(folder, metric=DICE, title="Patients")
    write_scores(folder / "all.csv", table_lines(), ("row", "seed", "image", "score"))
    return import_folder(folder, tmp_path / "study", drawn)


def test_means_of_scores_have_the_estimate_and_the_noise_of_their_images(tmp_path):
    study = scored(tmp_path)
    interval = compare_rows(study)["wide"].interval
    differences = np.mean([np.subtract(scores(1, seed), scores(0, seed)) for seed in range(3)], axis=0)
    assert interval is not None
    assert interval.estimate == pytest.approx(differences.mean())
    one_seed = {"a": {0: Means(np.array(scores(0, 0)))}, "b": {0: Means(np.array(scores(1, 0)))}}
    drawn = Resampled(one_seed).contrast({"b": 1, "a": -1})
    expected = stats.ttest_rel(scores(1, 0), scores(0, 0)).confidence_interval(0.95)
    assert (drawn.low, drawn.high) == pytest.approx(tuple(expected), rel=0.03)
    text = build_table(study).rows[1]["score"].text
    values = [100 * float(np.mean(scores(1, seed))) for seed in range(3)]
    assert text == f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


@pytest.mark.parametrize(("images", "seeds", "p"), [(3, 1, 0.25), (12, 1, 2**-11), (2, 3, 0.25)])
def test_a_difference_that_never_varies_is_as_probable_as_signs_are(tmp_path, images, seeds, p):
    lines = [
        [name, seed, image, score]
        for name, score in (("plain", 0.0), ("wide", 1.0))
        for seed in range(seeds)
        for image in IMAGES[:images]
    ]
    write_scores(tmp_path / "files" / "all.csv", lines, ("row", "seed", "image", "score"))
    write_study_file(tmp_path / "files", metric=DICE, rows={"plain": None, "wide": "plain"})
    interval = compare_rows(import_folder(tmp_path / "files", tmp_path / "study"))["wide"].interval
    assert interval is not None
    assert (interval.low, interval.high, interval.p_value) == (1.0, 1.0, p)


def test_a_mean_of_scores_may_be_called_miou(tmp_path):
    table = write_scores(tmp_path / "miou.csv", table_lines(), ("row", "seed", "image", "score"))
    study = import_folder(table, tmp_path / "study", metric_name="mIoU", metric_unit="fraction", metric_better="higher")
    shown = build_table(study)
    assert "miou_devkit" not in shown.rows[0]["miou"].values
    assert "mean over its images" in " ".join(note.text for note in shown.footnotes)
    assert "difference" in shown.rows[1]


def test_whole_groups_of_images_are_drawn(tmp_path):
    lines = [[*line, line[2][:6]] for line in table_lines()]  # image0 and image1: two patients
    table = write_scores(tmp_path / "grouped.csv", lines, ("row", "seed", "image", "score", "group"))
    study = import_folder(table, tmp_path / "study", metric_name="Dice", metric_unit="fraction", metric_better="higher")
    interval = compare_rows(study)["wide"].interval
    assert interval is not None
    assert (interval.units.kind, interval.images) == ("groups", len(IMAGES))
    assert "2 groups" in " ".join(note.text for note in build_table(study).footnotes)


def test_groups_stand_beside_the_images_of_one_run_as_well(tmp_path):
    write_study_file(tmp_path / "files", metric=DICE)
    for place, row in enumerate(("plain", "wide")):
        path = write_run(tmp_path / "files", row, 0)
        lines = [[image, score, image[:6]] for image, score in zip(IMAGES, scores(place, 0), strict=True)]
        write_scores(path.with_suffix(".csv"), lines, ("image", "score", "group"))
    interval = compare_rows(import_folder(tmp_path / "files", tmp_path / "study"))["wide"].interval
    assert interval is not None
    assert interval.units.kind == "groups"


@pytest.mark.parametrize(
    ("metric", "factor", "header", "difference", "verb"),
    [
        ({"unit": "fraction"}, 1, "Dice %", "+3.", "gains"),
        ({"unit": "percent"}, 100, "Dice %", "+3.", "gains"),
        ({"name": "MAE", "unit": "px", "better": "lower"}, 1, "MAE (px)", "+0.03", "loses"),
    ],
)
def test_units_and_directions_are_those_that_were_said(tmp_path, metric, factor, header, difference, verb):
    folder = tmp_path / "files"
    write_study_file(folder, metric={**DICE, **metric})
    lines = [[*line[:3], factor * float(str(line[3]))] for line in table_lines()]
    write_scores(folder / "all.csv", lines, ("row", "seed", "image", "score"))
    study = import_folder(folder, tmp_path / "study")
    table = build_table(study)
    assert header in [column.header for column in table.columns]
    assert table.rows[1]["difference"].text.startswith(difference)
    page = render_page(PageData(Rendering(study), None, {}, 10**7))
    assert f"{verb}: {difference}" in page
    assert ("lower is better" in page) == (metric.get("better") == "lower")


def test_nothing_of_exfuse_shows_in_what_an_import_makes(tmp_path):
    folder = tmp_path / "files"
    for place, row in enumerate(("plain", "wide")):
        for seed in (0, 1):
            write_counts(folder, row, seed, 0.6 + 0.1 * place, {"rate": 0.1 * (1 + place)})
    rendering = Rendering(import_folder(folder, tmp_path / "study"))
    page = render_page(PageData(rendering, None, {}, 10**7)).partition("<body>")[2].partition("<script type")[0]
    command = rendering.study.command
    for name, text in {**rendering.texts(), "page": page}.items():
        shown = re.sub(r"<style>.*?</style>|<[^>]+>", " ", text, flags=re.DOTALL).replace(command, "")
        assert not EXFUSE.findall(shown), name
    keys = [column.key for column in rendering.tables[0].columns]
    assert keys == ["variant", "settings.rate", "miou", "seeds", "difference", "p"]


def test_settings_in_which_rows_differ_are_columns_and_those_that_all_share_a_footnote(tmp_path):
    folder = tmp_path / "files"
    for place, row in enumerate(("plain", "wide")):
        for seed in (0, 1):
            write_counts(
                folder, row, seed, 0.6 + 0.1 * place, {"optim.lr": 0.1 * (1 + place), "optim": {"name": "SGD"}, "epochs": 9}
            )
    table = build_table(import_folder(folder, tmp_path / "study"))
    column = next(column for column in table.columns if column.group == "settings")
    assert (column.header, [row[column.key].text for row in table.rows]) == ("lr", ["0.1", "0.2"])
    assert "Every run: optim.name SGD, epochs 9." in [note.text for note in table.footnotes]


def test_a_setting_called_as_another_column_keeps_its_value_in_the_csv(tmp_path):
    folder = tmp_path / "files"
    for place, row in enumerate(("a", "b")):
        for seed in (0, 1):
            settings = {"p": 0.1 + 0.4 * place, "low": place, "decay": place, "marks": f"m{place}", "settings.p": 7 + place}
            write_counts(folder, row, seed, 0.6 + 0.1 * place, settings)
    lines = csv.render(build_table(import_folder(folder, tmp_path / "study"))).splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    assert [(row["settings.p"], row["settings.low"], row["decay"]) for row in rows] == [("0.1", "0", "0"), ("0.5", "1", "1")]
    assert [row["settings.marks"] for row in rows] == ["m0", "m1"]
    assert [row["settings.settings.p"] for row in rows] == ["7", "8"]  # called as the other one's whole key
    assert rows[0]["p"] == "" != rows[1]["p"] != "0.5"


def test_factors_of_settings_have_effects(tmp_path):
    folder = tmp_path / "files"
    write_study_file(folder, metric=DICE, factors=["ema", "mixup"])
    for place, (ema, mixup) in enumerate(((False, 0), (True, 0), (False, 0.2), (True, 0.2))):
        for seed in (0, 1):
            path = write_run(folder, f"row{place}", seed, {"ema": ema, "mixup": mixup})
            write_scores(path.with_suffix(".csv"), list(zip(IMAGES, scores(place, seed, 0.7), strict=True)))
    study = import_folder(folder, tmp_path / "study")
    effects = effects_of(study)
    assert isinstance(effects, FactorialEffects)
    assert effects.main["ema"].estimate == pytest.approx(0.03, abs=0.01)
    assert effects.main["mixup"].estimate == pytest.approx(0.06, abs=0.01)
    assert not [text for text in Rendering(study).texts().values() if "mIoU" in text]


def test_an_import_is_a_study_that_can_be_checked_summarised_and_made_again(tmp_path, capsys):
    study = scored(tmp_path, drawn=True)
    check_study(study.folder)
    assert {path.name for path in study.folder.iterdir()} >= {"table.md", "table.tex", "table.csv", "ladder.svg", "records"}
    summarise(str(study.folder / "records"), [], None)
    assert "Dice %" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in study.folder.rglob("*") if path.suffix in (".json", ".npz", ".csv")}
    import_folder(tmp_path / "files", study.folder)
    assert before == {path: path.read_bytes() for path in study.folder.rglob("*") if path.suffix in (".json", ".npz", ".csv")}
    write_scores(tmp_path / "files" / "all.csv", table_lines(("plain", "deep")), ("row", "seed", "image", "score"))
    again = import_folder(tmp_path / "files", study.folder)
    assert [row.name for row in again.rows] == ["plain", "deep"]
    assert len(list((study.folder / "records").iterdir())) == 6


def test_an_altered_score_reaches_no_table(tmp_path):
    study = scored(tmp_path)
    path = next((study.folder / "records").glob("*/scores.npz"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(Exception, match=f"{path}.*import it anew"):
        build_table(load_study(study.folder))


@pytest.mark.parametrize("damage", ["swapped", "removed"])
def test_scores_that_nothing_is_compared_with_are_checked_too(tmp_path, damage):
    write_scores(tmp_path / "one.csv", table_lines(["plain"], [0, 1]), ("row", "seed", "image", "score"))
    import_folder(
        tmp_path / "one.csv", tmp_path / "study", drawn=True, metric_name="Dice", metric_unit="fraction", metric_better="higher"
    )
    check_study(tmp_path / "study")
    first, second = sorted((tmp_path / "study" / "records").glob("*/scores.npz"))
    content = first.read_bytes(), second.read_bytes()
    if damage == "swapped":
        first.write_bytes(content[1])
    else:
        first.unlink()
    with pytest.raises(UserError, match=first.parent.name):
        check_study(tmp_path / "study")


@pytest.mark.parametrize(
    ("ask", "records"), [(asked.study, False), (view_study, False), (asked.compared, True), (asked.scored, True)]
)
def test_what_needs_a_model_says_that_there_is_none(tmp_path, ask, records):
    folder = scored(tmp_path).folder
    with pytest.raises(UserError, match="imported from other code"):
        ask([str(folder / "records")] if records else folder)


def ordered_frames(folder: Path, of_wide: Sequence[str], of_plain: Sequence[str] = IMAGES) -> Path:
    """Two runs whose images are frames of two videos; scores stand by image, whatever the order."""
    write_study_file(folder, metric=DICE, groups={"by": "(image.)", "ordered": True})
    for place, (row, images) in enumerate((("plain", of_plain), ("wide", of_wide))):
        known = dict(zip(IMAGES, scores(place, 0), strict=True))
        path = write_run(folder, row, 0)
        write_scores(path.with_suffix(".csv"), [[image, known[image]] for image in images])
    return folder


def test_runs_that_contradict_each_other_in_the_order_of_frames_are_refused(tmp_path, capsys):
    turned = [*IMAGES[10:], *IMAGES[:10]]  # another video first: no neighbour is another
    study = import_folder(ordered_frames(tmp_path / "good", turned), tmp_path / "study", quiet=False)
    assert study.rows[0].runs[0].grouping is not None
    assert "neighbours" not in capsys.readouterr().err
    shuffled = [IMAGES[1], IMAGES[0], *IMAGES[2:]]
    with pytest.raises(UserError, match=r"wide_0.* lists image image01 before image00, .*plain_0.* behind it, and"):
        import_folder(ordered_frames(tmp_path / "bad", shuffled), tmp_path / "no")
    assert not (tmp_path / "no").exists()
    import_folder(ordered_frames(tmp_path / "alike", shuffled, shuffled), tmp_path / "other", quiet=False)
    assert "lists image image01 before image00: as groups are ordered" in capsys.readouterr().err
