"""What a budget says that seeds and images tell, against studies that are simulated with just that noise."""

import numpy as np
import pytest

from exfuse.analysis.draws import GROUPS, IMAGES, NOTHING, Units
from exfuse.analysis.noise import Noise
from exfuse.analysis.power import (
    POWER,
    Pilot,
    Spread,
    Trained,
    images_for,
    power,
    read_pilot,
    read_rates,
    seeds_for,
    spread_of,
    told_by,
)
from exfuse.analysis.resampling import Resampled
from exfuse.errors import UserError
from exfuse.store.folder import RunFolder
from exfuse.store.grouping import Grouping
from tests.analysis.resampled import additive
from tests.analysis.synthetic import StudyBuilder
from tests.analysis.test_calibration import BASE as LOGITS, Spread as Moves, areas, count, share
from tests.records import SCORES, leave_record
from tests.sharing import amount

STUDIES = amount(20_000, 200_000)
NOISES = [  # variances in squared points: common to all seeds, of each seed's own on the images, of training
    (0.0, 0.0, 0.25), (0.04, 0.0, 0.25), (0.2, 0.1, 0.05), (0.01, 0.3, 0.0),
]  # fmt: skip


def spread(common, own, training, seeds=3, images=200):
    return Spread(common / 1e4, own / 1e4, training / 1e4, seeds, images, Units(IMAGES, images, 1, images - 1))


def simulated(difference, noise, seeds, images, level, rng):
    """The share of simulated studies whose interval leaves out zero."""
    common, own, training = (np.array(part) for part in noise)
    times = 200 / images
    shift = np.sqrt(times * common) * rng.standard_normal((STUDIES, 1))
    scores = difference + shift + np.sqrt(training + times * own) * rng.standard_normal((STUDIES, seeds))
    of_seeds = scores.var(1, ddof=1) / seeds
    known = np.full_like(of_seeds, times * common)
    half = Noise(known, images - 1, of_seeds, seeds - 1).half_width(1 - level)
    return float((abs(scores.mean(1)) > half).mean())


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("seeds", "images", "level"), [(2, 200, 0.95), (3, 100, 0.99), (5, 400, 0.95), (10, 200, 0.995)])
def test_power_is_what_simulated_studies_have(noise, seeds, images, level):
    rng = np.random.default_rng(3)
    for difference in (0.3, 1.0, 2.0):
        expected = simulated(difference, noise, seeds, images, level, rng)
        assert power(difference / 100, spread(*noise), seeds, images, level) == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("noise", NOISES)
def test_what_is_asked_for_is_the_least_that_tells(noise):
    noise = spread(*noise)
    seeds = seeds_for(0.01, noise, 200, 0.99)
    assert (seeds is None) == (power(0.01, noise, 200, 200, 0.99) < POWER)
    assert seeds is None or power(0.01, noise, seeds, 200, 0.99) >= POWER
    assert seeds in (None, 2) or power(0.01, noise, seeds - 1, 200, 0.99) < POWER
    images = images_for(0.01, noise, 5, 0.99)
    assert images is None or power(0.01, noise, 5, images, 0.99) >= POWER
    assert images in (None, 2) or power(0.01, noise, 5, images - 1, 0.99) < POWER
    told = told_by(noise, 5, 200, 0.99)
    assert power(told, noise, 5, 200, 0.99) >= POWER > power(told - 1e-4, noise, 5, 200, 0.99)


def test_seeds_tell_nothing_below_what_the_images_hide():
    hidden = spread(1.0, 0.0, 0.01)
    assert seeds_for(0.005, hidden, 200, 0.95) is None
    assert images_for(0.005, hidden, 5, 0.95) > 5000


def test_the_noise_of_a_pilot_is_that_of_its_estimates():
    """Whole simulated segmentations: the parts add up to the variance that the estimates of many pilots have."""
    rng, moves = np.random.default_rng(5), Moves(image=0.8, row_image=0.4, run=0.15)
    found, estimates = [], []
    for _ in range(amount(60, 300)):
        area = areas(150, rng)
        image = moves.image * rng.standard_normal((150, 1))
        cells = {}
        for row in ("base", "row"):
            logit = LOGITS + image + moves.row_image * rng.standard_normal((150, 1))
            shifts = moves.run * rng.standard_normal(4)
            cells[row] = {seed: count(area, share(logit + shift), rng) for seed, shift in enumerate(shifts)}
        drawn = Resampled(additive(cells), resamples=300)
        found.append(spread_of(drawn, "row", "base"))
        estimates.append(drawn.by_seed({"row": 1, "base": -1})[0].mean())
    expected = np.mean([one.common + (one.own + one.training) / 4 for one in found])
    assert expected == pytest.approx(np.var(estimates, ddof=1), rel=0.45)


@pytest.mark.parametrize("groups", [6, 1])
def test_a_pilot_of_groups_promises_what_its_interval_holds(groups):
    rng, images = np.random.default_rng(7), 60
    area = areas(images, rng)
    of_group = np.repeat(0.8 * rng.standard_normal((groups, 1)), images // groups, axis=0)
    cells = {
        row: {seed: count(area, share(LOGITS + side * of_group + 0.05 * rng.standard_normal()), rng) for seed in range(3)}
        for row, side in (("base", 0.0), ("row", 1.0))
    }
    ids = tuple(f"{place * groups // images}" for place in range(images))
    drawn = Resampled(additive(cells), 2000, grouping=Grouping(ids))
    found, shown = spread_of(drawn, "row", "base"), drawn.contrast({"row": 1, "base": -1})
    assert found is not None
    assert found.units.kind == (GROUPS if groups > 1 else NOTHING)
    half = float(found.noise(3, images).half_width(0.05))
    assert half == pytest.approx((shown.high - shown.low) / 2, rel=0.02)
    assert (images_for(0.5, found, 10, 0.95) is None) == (groups == 1)


def test_one_seed_shows_no_noise_of_training():
    area = areas(20, np.random.default_rng(0))
    counts = count(area, share(LOGITS + np.zeros((20, 1))), np.random.default_rng(1))
    assert spread_of(Resampled(additive({"a": {0: counts}, "b": {0: counts}}), 100), "b", "a") is None


def test_runs_that_do_not_differ_promise_nothing(tmp_path, command):
    """Models that learnt nothing all predict the background: two seeds would seem to tell anything."""
    builder = StudyBuilder(tmp_path / "study")
    builder.row("baseline", 1.0, (0, 1, 2))
    builder.row("seb", 1.0, (0, 1, 2), {"seb": "product"}, on="baseline")
    folder = builder.finish()
    assert not any(spread.is_seen for spread in read_pilot(folder).spreads().values())
    _, told, _ = command("budget", "detect=0.5", f"pilot={folder}")
    assert "no noise" in told


def test_a_finished_study_is_a_pilot_and_the_command_says_what_it_needs(tmp_path, command):
    builder = StudyBuilder(tmp_path / "study")
    builder.row("baseline", 0.6, (0, 1, 2))
    builder.row("seb", 0.7, (0, 1, 2), {"seb": "product"}, on="baseline")
    folder = builder.finish()
    pilot = read_pilot(folder)
    assert isinstance(pilot, Pilot)
    assert pilot.pairs == [("seb", "baseline")]
    status, told, _ = command("budget", "detect=0.5", f"pilot={folder}")
    assert status == 0
    assert "0.5" in told
    assert "seb vs" in told
    assert command("budget", folder, "detect=0.5")[0] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [(["detect=0.5"], "pilot=FOLDER"), (["detect=-1"], "detect=-1"), (["detect=0.5", "pilot=/nowhere"], "/nowhere")],
)
def test_mistakes_get_one_line(words, says, command):
    status, _, told = command("budget", *words)
    assert status == 1
    assert says in told
    assert "Traceback" not in told


def test_rates_are_of_one_thread_or_gpu_and_need_nothing_to_compare(tmp_path):
    environment = {"python": "3", "system": "x", "device": "x", "cores": 4, "commit": None, "packages": {}}
    config = {"backbone": {"name": "resnet18"}, "recipe": {"augmentation": {"crop": 64}}}
    runs = [
        ({"threads": 4}, {"precision": "32-true", "devices": 1}, 80.0),
        ({"threads": 2}, {"precision": "32-true", "devices": 1}, 60.0),
        ({"threads": 4, "cuda": "12.8"}, {"precision": "bf16-mixed", "devices": 2}, 500.0),
        ({"threads": 4, "cuda": "12.8"}, {"precision": "bf16-mixed", "devices": "auto"}, 900.0),  # of how many nobody knows
        ({"threads": 4, "cuda": "12.8", "processes": 8}, {"precision": "bf16-mixed", "devices": -1, "num_nodes": 2}, 1600.0),
        ({"threads": 1}, {"precision": "32-true", "devices": 2}, 50.0),
    ]
    for number, (own, trainer, rate) in enumerate(runs):
        leave_record(
            RunFolder(tmp_path, f"{number:016x}"),
            "done",
            name="baseline",
            seed=number,
            scores=SCORES,
            config=config | {"trainer": trainer},
            environment=environment | own,
            costs={"train_images_per_second": rate},
        )
    assert read_rates(tmp_path) == {
        Trained("baseline", "resnet18", 64, "32-true", True): 30.0,
        Trained("baseline", "resnet18", 64, "bf16-mixed", False): 250.0,
    }
    leave_record(RunFolder(tmp_path / "untimed", "f" * 16), "done", name="seb", seed=0, scores=SCORES, environment=environment)
    assert read_rates(tmp_path / "untimed") == {}
    with pytest.raises(UserError, match="no finished run"):
        read_rates(tmp_path / "nowhere")


def test_a_folder_without_two_rows_is_no_pilot(tmp_path):
    with pytest.raises(UserError, match="no two rows"):
        read_pilot(tmp_path)


def test_a_folder_in_which_two_runs_claim_a_cell_is_no_pilot(tmp_path):
    for number, name in enumerate(["baseline", "seb", "seb"]):
        leave_record(RunFolder(tmp_path, f"{number:016x}"), "done", name=name, label=name, seed=0, scores=SCORES)
    with pytest.raises(UserError, match=r"runs 0{15}[12] and 0{15}[12] are both seb, seed 0"):
        read_pilot(tmp_path)
