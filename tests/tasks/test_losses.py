"""Every option of conf/loss against its formula, pixel by pixel, and what all of them have in common."""

import functools
import math
from fractions import Fraction

import pytest
import torch

from exfuse.config import search_path
from exfuse.config.options import build
from exfuse.config.overrides import describe_run
from exfuse.errors import ConfigError
from exfuse.models.places import make_loss
from exfuse.palette import VOID
from exfuse.store.description import CROSS_ENTROPY, Option
from exfuse.tasks.losses import CrossEntropy, HardPixels, is_plain, segmentation_loss, weigh_classes, weights_of_classes
from tests.conftest import REPOSITORY

CLASSES, COUNTS = 4, (700, 200, 100, 0)  # the last is never labelled
OPTIONS = search_path.options("loss")


@functools.cache
def described(option):
    return describe_run([f"loss={option}"]).loss


def make(option, **settings):
    return build("loss", Option(option, {**described(option).settings, **settings}))(COUNTS)


def maps(dtype=torch.float64, size=(5, 6), seed=0):
    """Scores, half as large as the truth, and a truth of which a third is void and one class does not occur."""
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(2, CLASSES, *size, generator=generator, dtype=torch.float64)
    truth = torch.randint(3, (2, 5, 6), generator=generator).to(torch.uint8)
    truth[torch.rand(2, 5, 6, generator=generator) < 0.3] = VOID
    return scores.to(dtype).requires_grad_(), truth


def pixels(scores, truth):
    """Each labelled pixel's scores and id, in any order."""
    return [(scores[b, :, i, j], int(truth[b, i, j])) for b, i, j in (truth != VOID).nonzero().tolist()]


def minus_log(row, c):
    return row.exp().sum().log() - row[c]


def cross_entropy(scores, truth):
    terms = [minus_log(row, c) for row, c in pixels(scores, truth)]
    return sum(terms) / len(terms)


def weighted(scores, truth):
    labelled = [Fraction(count, sum(COUNTS)) for count in COUNTS]
    raw = [1 / math.log(1.02 + share) if share else 0.0 for share in labelled]
    scale = sum(float(share) * weight for share, weight in zip(labelled, raw, strict=True))
    terms = [raw[c] / scale * minus_log(row, c) for row, c in pixels(scores, truth)]
    return sum(terms) / len(terms)


def focal(scores, truth):
    terms = [(1 - row.softmax(0)[c]) ** 2 * minus_log(row, c) for row, c in pixels(scores, truth)]
    return sum(terms) / len(terms)


def ohem(scores, truth):
    terms = [minus_log(row, c) for row, c in pixels(scores, truth)]
    ranked = sorted(terms, key=lambda term: float(term.detach()), reverse=True)
    hard = [term for term in ranked if float((-term).exp().detach()) < 0.7]
    taken = max(hard, ranked[: math.ceil(len(ranked) / 16)], key=len)
    return sum(taken) / len(taken)


def dice(scores, truth):
    total = 0
    for wanted in range(CLASSES):
        p = [row.softmax(0)[wanted] for row, _ in pixels(scores, truth)]
        t = [float(c == wanted) for _, c in pixels(scores, truth)]
        if sum(t):
            total = total + 1 - 2 * sum(a * b for a, b in zip(p, t, strict=True)) / (sum(p) + sum(t))
    return total / CLASSES


def lovasz(scores, truth):
    """The loss of each set of mistakes, times by how much it grows with the next smaller error: equations 8 and 9."""
    found, total, present = pixels(scores, truth), 0, 0
    for wanted in sorted({c for _, c in found}):
        errors = [(1 - row.softmax(0)[c] if c == wanted else row.softmax(0)[wanted], c == wanted) for row, c in found]
        errors.sort(key=lambda pair: float(pair[0].detach()), reverse=True)
        truths, before, present = sum(own for _, own in errors), 0.0, present + 1
        for number in range(1, len(errors) + 1):
            missed = sum(own for _, own in errors[:number])
            false = number - missed
            jaccard = 1 - (truths - missed) / (truths + false)
            total = total + errors[number - 1][0] * (jaccard - before)
            before = jaccard
    return total / present


def both(scores, truth):
    return cross_entropy(scores, truth) + dice(scores, truth)


FORMULAS = {
    "cross_entropy": cross_entropy, "weighted": weighted, "focal": focal, "ohem": ohem, "dice": dice, "lovasz": lovasz,
    "sum": both,
}  # fmt: skip


def test_every_option_has_its_formula_here():
    assert sorted(FORMULAS) == sorted(OPTIONS)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_value_and_gradient_are_the_formulas_and_void_counts_for_nothing(option, seed):
    scores, truth = maps(seed=seed)
    loss, expected = make(option)(scores, truth), FORMULAS[option](scores, truth)
    close = {"rtol": 1e-5, "atol": 1e-6} if option == "lovasz" else {"rtol": 1e-6, "atol": 1e-7}
    torch.testing.assert_close(loss.double(), expected, **close)
    found, wanted = (torch.autograd.grad(value, scores)[0] for value in (loss, expected))
    torch.testing.assert_close(found, wanted, **close)
    assert found.permute(0, 2, 3, 1)[truth == VOID].count_nonzero() == 0

    other = scores.detach().clone()
    other.permute(0, 2, 3, 1)[truth == VOID] += 7 * torch.randn((truth == VOID).sum(), CLASSES, dtype=other.dtype)
    torch.testing.assert_close(make(option)(other, truth), loss.detach(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("option", OPTIONS)
def test_nothing_labelled_costs_nothing_and_smaller_scores_are_enlarged(option):
    scores, truth = maps(size=(3, 3))
    loss = make(option)(scores, torch.full_like(truth, VOID))
    assert loss.shape == ()
    assert loss == 0
    assert torch.autograd.grad(loss, scores)[0].count_nonzero() == 0
    large = torch.nn.functional.interpolate(scores, (5, 6), mode="bilinear")
    torch.testing.assert_close(make(option)(scores, truth), make(option)(large, truth))


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_precision_scores_are_summed_in_float32_and_gradients_are_finite(option, dtype):
    scores, truth = maps(dtype)
    loss = make(option)(scores, truth)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, make(option)(scores.detach().float(), truth))
    certain = (100 * torch.nn.functional.one_hot(truth.long().clamp(max=3), CLASSES).movedim(-1, 1)).to(dtype).requires_grad_()
    gradient = torch.autograd.grad(make(option)(certain, truth), certain)[0]
    assert gradient.isfinite().all()


def test_smoothing_gives_its_share_of_a_label_to_all_classes():
    scores, truth = maps()
    loss = make("cross_entropy", smoothing=0.2)(scores, truth)
    terms = [0.8 * minus_log(row, c) + 0.2 * sum(minus_log(row, k) for k in range(CLASSES)) / CLASSES
             for row, c in pixels(scores, truth)]  # fmt: skip
    torch.testing.assert_close(loss, sum(terms) / len(terms))


@pytest.mark.parametrize(("settings", "same"), [({"threshold": 1.0}, True), ({"threshold": 0.0, "at_least": 1.0}, True),
                                                ({"threshold": 0.0, "at_least": 0.01}, False)])  # fmt: skip
def test_hard_pixels_reach_from_all_of_them_to_the_hardest_alone(settings, same):
    scores, truth = maps()
    loss, hardest = HardPixels(COUNTS, **settings)(scores, truth), max(minus_log(row, c) for row, c in pixels(scores, truth))
    torch.testing.assert_close(loss, cross_entropy(scores, truth) if same else hardest)


def test_a_focal_loss_without_focus_is_the_cross_entropy():
    scores, truth = maps()
    torch.testing.assert_close(make("focal", gamma=0.0)(scores, truth), cross_entropy(scores, truth))


@pytest.mark.parametrize("formula", ["enet", "balanced"])
def test_class_weights_rise_with_rarity_and_keep_the_scale(formula):
    weights = weigh_classes(COUNTS, formula)
    assert weights[0] < weights[1] < weights[2]
    assert weights[3] == 0
    assert sum(count * weight for count, weight in zip(COUNTS, weights, strict=True)) / sum(COUNTS) == pytest.approx(1)
    if formula == "balanced":
        assert [count * weight for count, weight in zip(COUNTS[:3], weights, strict=False)] == pytest.approx([1000 / 3] * 3)


def test_class_weights_are_found_within_a_sum_and_no_part_of_a_checkpoint():
    parts = {**described("sum").settings["parts"], "cross_entropy": {"smoothing": 0.0, "class_weights": "balanced"}}
    loss = make("sum", parts=parts)
    assert weights_of_classes(loss) == pytest.approx(weigh_classes(COUNTS, "balanced"))
    assert loss.state_dict() == {}
    assert set(loss.parts) == {"cross_entropy", "dice"}  # those of weight 0 are not made


def test_the_plain_cross_entropy_is_the_default_and_adds_nothing_to_a_key():
    assert described("cross_entropy") == describe_run([]).loss == CROSS_ENTROPY
    assert is_plain(make("cross_entropy"))
    assert [option for option in OPTIONS if is_plain(make(option))] == ["cross_entropy"]
    assert not is_plain(make("cross_entropy", smoothing=0.1))
    scores, truth = maps(torch.float32)
    assert torch.equal(CrossEntropy(COUNTS)(scores, truth), segmentation_loss(scores, truth))


def test_a_loss_of_ones_own_is_a_class_and_a_file(tmp_path, monkeypatch):
    """The documentation's own."""
    text = (REPOSITORY / "docs" / "extend.md").read_text().partition("## A loss")[2]
    code, written = (text.partition(f"```{language}\n")[2].partition("```")[0] for language in ("python", "yaml"))
    (tmp_path / "polynomial.py").write_text(code)
    (tmp_path / "mine" / "loss").mkdir(parents=True)
    (tmp_path / "mine" / "loss" / "polynomial.yaml").write_text(written)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        search_path.use_words(["--config-dir", str(tmp_path / "mine")])
        chosen = describe_run(["loss=polynomial", "loss.epsilon=2"]).loss
        assert chosen == Option("polynomial", {"epsilon": 2})
        with pytest.raises(ConfigError, match=r"loss\.epsilon=-1: expected a number of at least 0"):
            describe_run(["loss=polynomial", "loss.epsilon=-1"])
        loss = build("loss", chosen)(COUNTS)
    finally:
        search_path.use_words([])
    scores, truth = maps()
    scores = scores.float()
    expected = sum(minus_log(row, c) + 2 * (1 - row.softmax(0)[c]) for row, c in pixels(scores, truth)) / len(
        pixels(scores, truth)
    )
    torch.testing.assert_close(loss(scores, truth), expected)
    assert loss(scores, torch.full_like(truth, VOID)) == 0


class Own(torch.nn.Module):
    """As docs/extend.md has it, spoilt as it is told."""

    def __init__(self, counts, spoil=""):  # noqa: ARG002
        super().__init__()
        self.spoil = spoil

    def forward(self, scores, truth):
        loss = segmentation_loss(scores, truth)
        if self.spoil == "void":
            truth[truth == 255] = 0
        if self.spoil in ("scores", "truth"):
            {"scores": scores.detach(), "truth": truth}[self.spoil].fill_(0)
        spoilt = {"pixels": scores[:, 0], "number": 0.5, "nothing": None, "fixed": loss.detach(), "complex": loss * 1j}
        return spoilt.get(self.spoil, loss)


class OfScores(Own):
    def forward(self, scores):
        return scores.mean()


class WithoutCounts(torch.nn.Module):
    pass


def plain_function(counts):
    return segmentation_loss


class Particular(Own):
    """What a trial must bear: windows, scores changed in place, random numbers, a count of its own, nothing without things."""

    def __init__(self, counts):
        super().__init__(counts)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, scores, truth):
        self.steps += 1
        things = torch.nn.functional.avg_pool2d(scores.clamp_(-9, 9), 7)[:, 1:] * torch.rand(())
        return things.mean() if (truth > 0).any() else torch.zeros(())


class Failing(Own):
    def forward(self, scores, truth):
        raise ValueError(f"of {scores.shape} and {truth.shape} alone")


class Learnt(Own):
    def __init__(self, counts):
        super().__init__(counts)
        self.weight = torch.nn.Parameter(torch.ones(2))


@pytest.mark.parametrize("option", [Own, Particular, Failing])
def test_a_trial_of_an_own_loss_leaves_no_trace(option):
    before = torch.random.get_rng_state()
    loss = make_loss("loss=mine", option, COUNTS)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not loss.state_dict() or loss.steps == 0


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (WithoutCounts, r"place: loss calls it with one argument, but .*WithoutCounts does not"),
        (plain_function, r"place: loss wants a torch\.nn\.Module, but .*plain_function gave"),
        (OfScores, r"a loss is called with scores and truth, but .*OfScores\.forward is not"),
        (Learnt, r".*Learnt has a parameter, weight, but the optimiser learns the model's alone"),
        (Own(COUNTS), r"its file makes a module before .* add _partial_: true"),
        *(
            (functools.partial(Own, spoil=spoil), rf".*Own changes the {spoil.replace('void', 'truth')} that it is given")
            for spoil in ("scores", "truth", "void")
        ),
        *(
            (
                functools.partial(Own, spoil=spoil),
                rf"a loss gives a tensor of one number that has a gradient, but .*Own gave {found}",
            )
            for spoil, found in (
                ("pixels", r"a tensor \(2, 72, 72\)"),
                ("number", r"0\.5"),
                ("nothing", "None"),
                ("fixed", r"tensor\("),
                ("complex", r"tensor\("),
            )
        ),
    ],
)
def test_an_own_loss_that_is_none_is_named_before_anything_trains(option, says):
    with pytest.raises(ConfigError, match=rf"loss=mine: {says}"):
        make_loss("loss=mine", option, COUNTS)
    assert isinstance(make_loss("loss=mine", Own, COUNTS), Own)
