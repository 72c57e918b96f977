"""Probes find what was put into a map, nothing where nothing is, and draw the same cells for every run."""

import csv
import json

import numpy as np
import pytest
import torch
from scipy import stats

from exfuse.errors import ConfigError, UserError
from exfuse.reports.features.statistics import Regions
from exfuse.reports.probe.cells import Drawer, probe
from exfuse.reports.probe.command import probe_features, summarise_probes
from exfuse.store.probes import ProbeResult
from tests.described import arguments_of

RANDOM = np.random.default_rng(0)


def told(answers, channels=6, strength=0.0):
    """Features that say the answer with this strength in one channel, noise elsewhere."""
    features = RANDOM.normal(size=(len(answers), channels)).astype(np.float32)
    features[:, 0] += strength * answers
    return features, answers


def test_a_probe_finds_what_is_linear_in_the_map_and_guesses_without():
    answers = RANDOM.integers(0, 2, 600)
    clear = probe(told(answers, strength=8), told(answers, strength=8), 1.0)
    nothing = probe(told(answers), told(answers), 1.0)
    assert clear.accuracy > 0.99
    assert nothing.accuracy == pytest.approx(0.5, abs=0.08)
    assert clear.chance == nothing.chance == 0.5


def test_accuracy_is_the_mean_over_answers_however_many_cells_each_has():
    taught = told(np.repeat([0, 1], 300), strength=8)
    features, answers = told(np.array([0] * 90 + [1] * 10), strength=8)
    features[90:95, 0] = 0.0  # half of the rare answer's cells look like the other
    assert probe(taught, (features, answers), 1.0).accuracy == pytest.approx(0.75, abs=0.02)


def test_answers_that_were_never_taught_are_left_out():
    taught = told(np.repeat([0, 1], 100), strength=8)
    features, answers = told(np.repeat([0, 1, 7], 50), strength=8)
    score = probe(taught, (features, answers), 1.0)
    assert score.cells == 100
    assert score.accuracy > 0.99


def test_one_answer_alone_gives_no_score():
    assert probe(told(np.repeat([0, 1], 50)), told(np.zeros(40, dtype=int)), 1.0) is None


def test_cells_are_drawn_evenly_from_the_answers_and_never_from_void():
    classes = torch.full((20, 20), 3)
    classes[:2] = 255
    classes[10, :5] = 1  # five cells of another class
    regions = Regions(classes, classes == 1)
    places, answers = Drawer(40, 2.0, 0)._choose(regions, "class", "image")
    assert sorted(np.bincount(answers, minlength=4).tolist()) == [0, 0, 5, 20]
    assert len(set(places.tolist())) == len(places)
    assert (classes.flatten()[places].numpy() == answers).all()
    borders, wanted = Drawer(40, 2.0, 0)._choose(regions, "border", "image")
    assert (regions.band.flatten()[borders].numpy() == (wanted == 1)).all()
    again, _ = Drawer(40, 2.0, 0)._choose(regions, "class", "image")
    assert torch.equal(places, again)
    assert not torch.equal(places, Drawer(40, 2.0, 1)._choose(regions, "class", "image")[0])


def test_the_interval_is_students_over_seeds():
    after = (0.60, 0.66, 0.63)
    results = [ProbeResult(str(s), "seb", s, "product", "res2", "class", 0.5, value, 0.1, 9) for s, value in enumerate(after)]
    (one,) = summarise_probes(results)
    low, high = stats.ttest_1samp([value - 0.5 for value in after], 0.0).confidence_interval(0.95)
    assert (one.low, one.high) == (pytest.approx(low), pytest.approx(high))
    assert one.difference == pytest.approx(0.13)
    (alone,) = summarise_probes(results[:1])
    assert alone.low is None
    assert alone.before_sd is None


def config(*overrides):
    return arguments_of("report_probe", *overrides)


@pytest.mark.parametrize(
    ("override", "name"), [("cells=1", "cells"), ("train_images=0", "train_images"), ("strength=0", "strength")]
)
def test_values_that_cannot_be_used_are_refused(override, name):
    with pytest.raises(ConfigError, match=name):
        probe_features(**config("checkpoint=nowhere", override))


@pytest.mark.slow
def test_two_trained_runs_are_probed_into_one_folder(baseline_run, train_small, tmp_path, capsys):
    # at the full rate from its first step, so that SEB moves away from the network without it
    finished_run = train_small("+ablation=seb_ecre", "recipe.lr=0.05", "recipe.schedule.warmup_steps=0")
    output = tmp_path / "probe"
    overrides = [f"checkpoint=[{baseline_run.path},{finished_run.path}]", f"output={output}", "train_images=8", "device=cpu"]
    probe_features(**config(*overrides))
    rows = list(csv.DictReader((output / "probe.csv").open()))
    assert {(row["level"], row["question"]) for row in rows} == {
        (level, question) for level in ("res2", "res3", "res4") for question in ("class", "border")
    }
    assert all(row["before"] == row["after"] for row in rows if row["seb"] == "none")
    assert any(row["before"] != row["after"] for row in rows if row["seb"] == "product")
    assert all(0 <= float(row[when]) <= 1 for row in rows for when in ("before", "after"))
    assert json.loads((output / "probe.json").read_text())["settings"]["train_images"] == 8
    assert (output / "probe.svg").stat().st_size > 5000
    shown = capsys.readouterr().out
    assert "after - before" in shown
    assert "as before" in shown  # the run without SEB
    assert "…" not in shown  # nothing is cut off at 80 columns
    first = (output / "probe.csv").read_bytes()
    probe_features(**config(*overrides))
    assert (output / "probe.csv").read_bytes() == first
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="not written by exfuse"):
        probe_features(**config(*overrides[:1], f"output={tmp_path / 'other'}"))
