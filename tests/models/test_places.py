"""Where techniques act, one or several in a place, whoever they come from."""
# ruff: noqa: ARG002, NPY002 - modules take whatever their places give, and draw from any generator

import copy
import random
from operator import attrgetter

import numpy as np
import pytest
import torch
from torch import nn

from exfuse import files
from exfuse.composition.segmentation import build_model
from exfuse.config.slots import register_slots
from exfuse.errors import ConfigError
from exfuse.fusing.fuse import fuse
from exfuse.models.gcn import BoundaryRefinement
from exfuse.models.modes import modes_kept
from exfuse.store import variants

SLOT = "title: {name}\norder: {order}\nbaseline: none\nplace: {place}\n"


class Scale(nn.Module):
    """Multiplies by a number and takes down its name whenever it is called: maps of levels, or scores."""

    called: list[str] = []

    def __init__(self, name, channels=None, levels=None, classes=None):
        super().__init__()
        self.name = name
        self.given = {"channels": channels, "levels": levels, "classes": classes}
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, maps):
        self.called.append(self.name)
        return [each * self.factor for each in maps] if isinstance(maps, list) else maps * self.factor


class Halved(nn.Module):
    """Forgets that a level's size is to stay."""

    def __init__(self, name, channels=None, levels=None, classes=None):
        super().__init__()

    def forward(self, maps):
        return [each[..., ::2, ::2] for each in maps] if isinstance(maps, list) else maps[..., ::2, ::2]


class Hard(Halved):
    def forward(self, maps):
        return maps.argmax(1, keepdim=True).expand_as(maps)


class Listed(Halved):
    """A level's maps alone, or a list of scores."""

    def forward(self, maps):
        return maps[0] if isinstance(maps, list) else [maps]


class OfOneClass(Halved):
    def forward(self, maps):
        return maps[:, :1]


class Frozen(Scale):
    """Keeps the statistics that it came with."""

    def __init__(self, name, channels=None, levels=None, classes=None):
        super().__init__(name, channels, levels, classes)
        self.norm = nn.BatchNorm2d(classes).eval()


class Gate(nn.Module):
    """A path that starts closed, beside all that a constructor may draw."""

    def __init__(self, name, classes):
        super().__init__()
        self.usual, self.closed, self.drawn = (nn.Conv2d(classes, classes, 1) for _ in range(3))
        nn.init.zeros_(self.closed.weight)
        self.copied, self.norm = copy.deepcopy(self.closed), nn.BatchNorm2d(classes)
        self.norm.running_mean.fill_(3)
        self.drawn.weight.data.normal_(std=5)
        self.factor = nn.Parameter(torch.rand(3))
        self.register_buffer("kept", torch.rand(3))
        self.register_buffer("lost", torch.rand(3), persistent=False)
        self.numbers = (random.random(), np.random.rand())

    def forward(self, scores):
        return scores + self.closed(self.usual(scores))


class Block(Gate):
    """Nobody asks it to reset."""

    def reset_parameters(self):
        nn.init.constant_(self.closed.weight, 0.5)


class FirstImage(nn.Module):
    """Shifts what it is given by the mean of the first that it saw."""

    def __init__(self, name, classes):
        super().__init__()
        self.register_buffer("shift", torch.zeros(()))
        self.seen = False

    def forward(self, scores):
        if not self.seen:
            self.shift.copy_(scores.mean())
            self.seen = True
        return scores - self.shift


class Closure(nn.Module):
    """Reaches a part of itself through a function, of which a copy is that function."""

    def __init__(self, name, classes):
        super().__init__()
        norm = self.norm = nn.BatchNorm2d(classes)
        dropout = self.dropout = nn.Dropout()
        self.function = lambda scores: dropout(norm(scores))

    def forward(self, scores):
        return self.function(scores)


class InPlace(Halved):
    def forward(self, scores):
        return scores.sub_(0.5).mul_(2)


class Lazy(nn.Module):
    def __init__(self, name, classes):
        super().__init__()
        self.late = nn.LazyConv2d(classes, 1)

    def forward(self, scores):
        return self.late(scores)


class ByChance(Halved):
    def forward(self, scores):
        return scores + torch.rand(())


class ByChanceOfNumpy(Halved):
    def forward(self, scores):
        return scores * float(np.random.rand())


class NoNumber(Halved):
    """Of a map of small random values: the training, if it comes to that, says it."""

    def forward(self, scores):
        return scores.log()


class InTraining(Halved):
    def forward(self, scores):
        return scores + torch.rand(()) if self.training else scores


class Drawn(nn.Module):
    """Draws as layers of all sorts do, and as a constructor may itself; behind another layer where ``more`` asks for one."""

    def __init__(self, name, classes, more=0):
        super().__init__()
        self.before = nn.Conv2d(classes, more, 1) if more else nn.Identity()
        self.attention = nn.MultiheadAttention(8, 2)
        self.given_by_init = nn.Parameter(nn.init.trunc_normal_(torch.empty(3, 5)))
        self.itself = nn.Parameter(torch.randn(3, 5))
        self.late = self._late()(classes)
        with torch.random.fork_rng(devices=[]):
            torch.rand(3)  # as an isolated trial does
        self.after = nn.Conv2d(3, 5, 1)
        own = torch.Generator().manual_seed(3)
        self.register_buffer("own", torch.rand(4, generator=own))
        torch.manual_seed(0)
        self.first = nn.Linear(4, 4)
        torch.manual_seed(0)
        self.tied = nn.Linear(4, 4)

    @staticmethod
    def _late():
        class Late(nn.Conv2d):
            def __init__(self, classes):
                super().__init__(classes, classes, 1)
                self.reset_parameters(gain=2.0)

            def reset_parameters(self, gain=1.0):
                super().reset_parameters()
                self.weight.data *= gain
                return self

        return Late

    def forward(self, scores):
        return scores


class Merged(nn.Conv2d):
    """As LoRA's layers: in evaluation mode the path beside is part of the weights."""

    def __init__(self, classes):
        self.merged = 0
        super().__init__(classes, classes, 1)

    def train(self, mode=True):
        self.merged += (not mode) - self.merged
        return super().train(mode)


class Merging(nn.Module):
    def __init__(self, name, classes):
        super().__init__()
        self.layer = Merged(classes)

    def forward(self, scores):
        return self.layer(scores)


class HalvedInPlace(Halved):
    """Changes the list that it was given, and gives that."""

    def forward(self, maps):
        maps[:] = [each[..., ::2, ::2] for each in maps]
        return maps


class Ready(nn.Module):
    """A file of it that lacks ``_partial_: true`` makes it at once."""

    def __init__(self, name):
        super().__init__()

    def forward(self, scores):
        return scores


class HeadWithoutAuxiliary(nn.Module):
    decoder_channels = 16

    def __init__(self, name, classes):
        super().__init__()
        self.scores = nn.Conv2d(16, classes, 1)

    def forward(self, maps):
        return self.scores(maps)


class Thrice(nn.Module):
    """An upsampling that is asked for its scale and enlarges by three."""

    auxiliary_weight = 0.0

    def __init__(self, name, channels, scale):
        super().__init__()

    def forward(self, maps):
        return nn.functional.interpolate(maps, scale_factor=3.0)


class Adapted(nn.Module):
    """Puts a layer that starts closed into the encoder."""

    def __init__(self, backbone, name):
        super().__init__()
        self.backbone = backbone
        self.channels, self.levels, self.reductions = backbone.channels, backbone.levels, backbone.reductions
        backbone.adapter = nn.Conv2d(8, 8, 1)
        nn.init.zeros_(backbone.adapter.weight)

    def forward(self, image):
        return self.backbone(image)


class Pretrained(Adapted):
    pretrained_parts = ("backbone",)

    def __init__(self, backbone, name):
        super().__init__(backbone, name)
        for value in backbone.parameters():
            nn.init.constant_(value, 0.125)


class Renamed(Adapted):
    def __init__(self, backbone, name):
        super().__init__(backbone, name)
        del self.backbone
        self.net = nn.Sequential(backbone)
        self.backbone = backbone


class OwnDecoder(nn.Module):
    """As docs/own_project.md has it: of its first upsampling it says nothing but where its scores are supervised."""

    def __init__(self, channels, reductions, width, first_upsampling, levels):
        super().__init__()
        self.first = first_upsampling(channels=width, scale=2)
        self.auxiliary_weight = self.first.auxiliary_weight
        self.narrow = nn.Conv2d(channels[-1], width, 1)

    def forward(self, levels, size):
        first = self.first(self.narrow(levels[-1]))
        return nn.functional.interpolate(first, size=size), first


class Smoothed(OwnDecoder):
    def __init__(self, **given):
        super().__init__(**given)
        width = given["width"]
        self.refine = BoundaryRefinement(width)
        self.smooth, self.again = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))


class ByName(OwnDecoder):
    """Calls its first upsampling by a keyword."""

    def forward(self, levels, size):
        first = self.first(maps=self.narrow(levels[-1]))
        return nn.functional.interpolate(first, size=size), first


class WideDecoder(OwnDecoder):
    def forward(self, levels, size):
        scores, first = super().forward(levels, size)
        return torch.cat((scores, scores[:, :1]), 1), first


class OneMap(OwnDecoder):
    def forward(self, levels, size):
        return super().forward(levels, size)[0]


class WithoutFirst(OwnDecoder):
    def forward(self, levels, size):
        return super().forward(levels, size)[0], None


class Unsaid(OwnDecoder):
    def __init__(self, **given):
        super().__init__(**given)
        del self.auxiliary_weight


class HalfPrecision(Halved):
    def forward(self, maps):
        return [each.half() for each in maps]


class Lost(Halved):
    def forward(self, maps):
        return maps[:-1] if isinstance(maps, list) else None


class Unasked(nn.Module):
    def __init__(self, name, width):
        super().__init__()


class Headless(nn.Module):
    def __init__(self, name, classes=None, channels=None, scale=None):
        super().__init__()


class Failing(Halved):
    def forward(self, maps):
        raise ZeroDivisionError("mine")


@pytest.fixture
def add(tmp_path):
    """Add a technique of a folder outside the package: ``add("early", "levels", 3.5)``."""

    def added(name, place, order, target="tests.models.test_places.Scale"):
        for group in ("slot", f"technique/{name}"):
            (tmp_path / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "slot" / f"{name}.yaml").write_text(SLOT.format(name=name, order=order, place=place))
        for option, code in (("none", "torch.nn.Identity"), ("on", target)):
            text = f"# A test's.\n_target_: {code}\n_partial_: true\nname: {name}-{option}\n"
            (tmp_path / "technique" / name / f"{option}.yaml").write_text(text)
        files.set_config_dirs([tmp_path])
        variants._read.cache_clear()
        register_slots()

    yield added
    files.set_config_dirs([])
    register_slots()


def test_several_techniques_act_on_levels_and_scores_in_the_tables_order(add, compose_config):
    where = (("late", "levels", 7), ("early", "levels", 3.5), ("after", "scores", 9), ("before", "scores", 8))
    for name, place, order in where:
        add(name, place, order)
    on = [f"technique/{name}=on" for name, *_ in where]
    config = compose_config("backbone=resnet_tiny", "technique/seb=product", *on, "technique/dap=wide")
    model = build_model(config, 4).eval()
    assert model.on_levels == ("technique_early", "embedding", "technique_late")
    assert model.on_scores == ("technique_before", "technique_after")
    assert model.technique_late.given == {"channels": model.encoder.channels, "levels": (2, 3, 4, 5), "classes": None}
    assert model.technique_before.given["classes"] == 4
    image = torch.randn(1, 3, 33, 47)
    for form in (model, fuse(model), copy.deepcopy(model).train()):
        Scale.called.clear()
        scores = form(image).scores
        assert Scale.called == ["early-on", "late-on", "before-on", "after-on"]
    with torch.no_grad():
        torch.testing.assert_close(fuse(model)(image).scores, model(image).scores, rtol=1e-4, atol=1e-4)
        scores = model(image).scores
        model.technique_after.factor.mul_(3)
        torch.testing.assert_close(model(image).scores, 3 * scores)


class Unbuildable(nn.Module):
    """A test's."""

    def __init__(self, channels=(), levels=(), name=""):
        super().__init__()
        _ = len(levels) // len(name[100:])


def test_code_of_ones_own_that_fails_is_named_in_a_line(add, compose_config):
    add("early", "levels", 3.5, "tests.models.test_places.Unbuildable")
    with pytest.raises(ConfigError, match=r"^technique/early: .*Unbuildable fails: ZeroDivisionError: .* by zero\.$"):
        build_model(compose_config("backbone=resnet_tiny", "technique/early=on"), 4)


def test_what_a_model_shares_with_one_without_a_technique_starts_the_same(add, compose_config):
    without = build_model(compose_config("backbone=resnet_tiny", "technique/seb=product"), 4).state_dict()
    add("early", "levels", 3.5)
    model = build_model(compose_config("backbone=resnet_tiny", "technique/seb=product", "technique/early=on"), 4).state_dict()
    assert model.keys() - without.keys() == {"technique_early.factor"}
    assert all(torch.equal(value, model[name]) for name, value in without.items())


def test_the_values_that_a_constructor_gives_stay_and_follow_from_seed_and_name_alone(add, compose_config):
    add("mine", "scores", 9, "tests.models.test_places.Gate")
    config = compose_config("backbone=resnet_tiny", "technique/mine=on")
    gate = build_model(config, 4).technique_mine
    assert not gate.closed.weight.any()
    assert not gate.copied.weight.any()
    assert (gate.norm.running_mean == 3).all()
    assert gate.drawn.weight.std() > 2
    add("other", "scores", 8, "tests.models.test_places.Gate")  # draws before it
    torch.manual_seed(7), random.seed(7), np.random.seed(7)
    beside = build_model(compose_config("backbone=resnet_tiny", "technique/mine=on", "+technique/other=on"), 4)
    same = beside.technique_mine
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in gate.state_dict().items())
    assert torch.equal(gate.lost, same.lost)
    assert gate.numbers == same.numbers
    for name in ("usual.weight", "drawn.weight", "factor", "kept", "lost"):
        mine, other = (attrgetter(name)(beside.get_submodule(f"technique_{which}")) for which in ("mine", "other"))
        assert not torch.equal(mine, other)
    another = build_model(compose_config("backbone=resnet_tiny", "technique/mine=on", "seed=1"), 4).technique_mine
    assert not torch.equal(gate.factor, another.factor)


def test_whatever_draws_draws_the_same_behind_another_layer_unless_it_has_a_seed_of_its_own(tmp_path, add, compose_config):
    add("mine", "scores", 9, "tests.models.test_places.Drawn")
    with (tmp_path / "technique" / "mine" / "on.yaml").open("a") as file:
        file.write("more: 0\n")
    chosen = ["backbone=resnet_tiny", "technique/mine=on"]
    config = compose_config(*chosen)
    models = [build_model(config, 4).technique_mine for _ in range(2)]
    models.append(build_model(compose_config(*chosen, "technique.mine.more=4"), 4).technique_mine)
    assert models[2].before.weight.shape == models[0].late.weight.shape
    for name, value in models[0].state_dict().items():
        others = models[1:2] if name.startswith("late") else models[1:]  # of the shape of that layer
        assert all(torch.equal(value, other.state_dict()[name]) for other in others), name
    assert torch.equal(models[0].first.weight, models[0].tied.weight)
    assert torch.equal(models[0].own, torch.rand(4, generator=torch.Generator().manual_seed(3)))
    assert not torch.equal(models[0].given_by_init, models[0].itself)
    seeded = build_model(compose_config(*chosen, "technique.mine.more=4", "seed=1"), 4).technique_mine
    drawn = {name for name, value in seeded.state_dict().items() if not torch.equal(value, models[2].state_dict()[name])}
    assert {name.partition(".")[0] for name in drawn} == {"before", "attention", "given_by_init", "itself", "late", "after"}


def test_a_trial_leaves_a_module_that_learns_of_modes_as_it_was(add, compose_config):
    add("mine", "scores", 9, "tests.models.test_places.Merging")
    layer = build_model(compose_config("backbone=resnet_tiny", "technique/mine=on"), 4).technique_mine.layer
    assert (layer.training, layer.merged) == (True, 0)
    with modes_kept(layer):
        layer.eval()
        assert layer.merged
    assert (layer.training, layer.merged) == (True, 0)


def test_what_a_block_would_reset_stays_as_its_constructor_gave_it(add, compose_config):
    add("mine", "scores", 9, "tests.models.test_places.Block")
    gate = build_model(compose_config("backbone=resnet_tiny", "technique/mine=on"), 4).technique_mine
    assert not gate.closed.weight.any()


def test_a_trial_leaves_no_trace_of_its_image(add, compose_config):
    add("mine", "scores", 9, "tests.models.test_places.FirstImage")
    mine = build_model(compose_config("backbone=resnet_tiny", "technique/mine=on"), 4).technique_mine
    assert (mine.seen, float(mine.shift)) == (False, 0)


def test_a_trial_runs_nothing_in_training_mode_through_a_function(add, compose_config):
    add("mine", "scores", 9, "tests.models.test_places.Closure")
    mine = build_model(compose_config("backbone=resnet_tiny", "technique/mine=on"), 4).technique_mine
    assert not mine.norm.num_batches_tracked
    assert mine.norm.training


def test_a_module_may_change_what_it_is_given_in_place(add, compose_config):
    add("mine", "scores", 9, "tests.models.test_places.InPlace")
    build_model(compose_config("backbone=resnet_tiny", "technique/mine=on"), 4)


def test_a_layer_without_a_size_is_named(add, compose_config):
    add("mine", "scores", 9, "tests.models.test_places.Lazy")
    with pytest.raises(ConfigError, match=r"technique/mine: .*Lazy: late\.weight has no size before"):
        build_model(compose_config("backbone=resnet_tiny", "technique/mine=on"), 4)


def test_a_module_that_fails_hides_no_other_that_is_random(add, compose_config):
    add("mine", "scores", 9, "tests.models.test_places.ByChance")
    add("failing", "scores", 10, "tests.models.test_places.Failing")
    with pytest.raises(ConfigError, match="technique/mine gives other values for the same image each time"):
        build_model(compose_config("backbone=resnet_tiny", "technique/mine=on", "technique/failing=on"), 4)


@pytest.mark.parametrize("code", ["ByChance", "ByChanceOfNumpy"])
def test_a_module_that_is_random_while_it_is_scored_is_named(add, compose_config, code):
    add("before", "scores", 8)
    add("mine", "scores", 9, f"tests.models.test_places.{code}")
    add("after", "scores", 10)
    with pytest.raises(ConfigError, match="technique/mine gives other values for the same image each time"):
        build_model(compose_config("backbone=resnet_tiny", "technique/mine=on"), 4)


@pytest.mark.parametrize("code", ["InTraining", "NoNumber"])
def test_a_module_may_be_random_in_training_or_give_no_number_of_a_trial(add, compose_config, code):
    add("mine", "scores", 9, f"tests.models.test_places.{code}")
    build_model(compose_config("backbone=resnet_tiny", "technique/mine=on"), 4)


@pytest.mark.parametrize("place", ["blocks", "features", "upsampling", "head"])
def test_where_one_technique_acts_a_second_is_refused(add, compose_config, place):
    add("second", place, 6)
    config = compose_config("backbone=resnet_tiny")
    with pytest.raises(ConfigError, match=rf"place: {place} takes one technique, but technique/\w+ and technique/second would"):
        build_model(config, 4)


@pytest.mark.parametrize(
    ("place", "code", "says"),
    [
        ("levels", "Halved", r"technique/mine gave \[\(2, 16, 9, 9\).* where place: levels wants \[\(2, 16, 18, 18\)"),
        ("levels", "HalvedInPlace", r"technique/mine gave \[\(2, 16, 9, 9\).* where place: levels wants \[\(2, 16, 18, 18\)"),
        ("scores", "OfOneClass", r"technique/mine gave \(2, 1, 72, 72\) where place: scores wants \(2, 4, \*, \*\)"),
        ("scores", "Listed", r"technique/mine gave \[\(2, 4, 72, 72\)\] where place: scores wants \(2, 4, \*, \*\)"),
        ("levels", "Listed", r"technique/mine gave \(2, 16, 18, 18\) where place: levels wants \[\(2, 16, 18, 18\), "),
        ("levels", "Lost", r"technique/mine gave .* where place: levels wants .*\(2, 128, 3, 3\)"),
        ("scores", "Lost", "technique/mine gave no tensor where"),
        ("scores", "Hard", r"technique/mine gave torch.int64 where place: scores wants torch.float32"),
        ("levels", "HalfPrecision", r"technique/mine gave torch.float16 where place: levels wants torch.float32"),
        ("levels", "Unasked", r"technique/mine: place: levels calls it with channels=, levels=, but .*Unasked does not: "),
        ("scores", "Unasked", r"technique/mine: place: scores calls it with classes=, but .*Unasked does not: "),
    ],
)
def test_a_module_that_gives_something_else_than_its_place_promises_is_named(add, compose_config, place, code, says):
    add("mine", place, 6, f"tests.models.test_places.{code}")
    with pytest.raises(ConfigError, match=says):
        build_model(compose_config("backbone=resnet_tiny", "technique/mine=on"), 4)


def test_smaller_scores_are_enlarged_by_whoever_compares_or_shows_them(add, compose_config):
    add("mine", "scores", 6, "tests.models.test_places.Halved")
    model = build_model(compose_config("backbone=resnet_tiny", "technique/mine=on"), 4)
    assert model(torch.zeros(2, 3, 64, 64)).scores.shape == (2, 4, 32, 32)


def test_to_be_tried_changes_no_modules_mode(add, compose_config):
    add("mine", "scores", 6, "tests.models.test_places.Frozen")
    model = build_model(compose_config("backbone=resnet_tiny", "technique/mine=on"), 4)
    assert [name for name, module in model.named_modules() if not module.training] == ["technique_mine.norm"]


def test_a_file_that_makes_its_module_at_once_is_told_what_it_lacks(tmp_path, add, compose_config):
    add("mine", "scores", 6, "tests.models.test_places.Ready")
    text = "# A test's.\n_target_: tests.models.test_places.Ready\nname: mine\n"
    (tmp_path / "technique" / "mine" / "whole.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"technique/mine: its file makes a module before .* add _partial_: true"):
        build_model(compose_config("backbone=resnet_tiny", "technique/mine=whole"), 4)


@pytest.fixture
def own_option(tmp_path, add):
    """Add an option to one of the paper's techniques: ``own_option("dap", "Thrice")``."""

    def added(slot, code):
        add("mine", "levels", 6)
        folder = tmp_path / "technique" / slot
        folder.mkdir(parents=True)
        (folder / "mine.yaml").write_text(
            f"# A test's.\n_target_: tests.models.test_places.{code}\n_partial_: true\nname: mine\n"
        )

    return added


def test_a_head_without_auxiliary_scores_is_named_where_the_upsampling_is_supervised(own_option, compose_config):
    own_option("dap", "HeadWithoutAuxiliary")
    build_model(compose_config("backbone=resnet_tiny", "technique/dap=mine"), 4)
    with pytest.raises(ConfigError, match=r"technique/dap: .* wants a module with auxiliary, which HeadWithoutAuxiliary lacks"):
        build_model(compose_config("backbone=resnet_tiny", "technique/dap=mine", "technique/ecre=subpixel_supervised"), 4)


@pytest.fixture
def own_decoder(tmp_path, add):
    """Add a decoder and choose it: ``own_decoder("OneMap")``."""

    def added(code):
        add("mine", "levels", 6)
        (tmp_path / "decoder").mkdir()
        text = f"# A test's.\n_target_: tests.models.test_places.{code}\n_partial_: true\nlevels: [2, 3, 4, 5]\n"
        (tmp_path / "decoder" / "mine.yaml").write_text(text)
        return ["backbone=resnet_tiny", "decoder=mine"]

    return added


@pytest.fixture
def tap(tmp_path, add, compose_config):
    """A model whose encoder is tapped by one's own code: ``tap("Adapted")``."""

    def tapped(code):
        add("mine", "levels", 6)
        (tmp_path / "technique" / "ss").mkdir()
        text = f"# A test's.\n_target_: tests.models.test_places.{code}\n_partial_: true\nname: mine\n"
        (tmp_path / "technique" / "ss" / "mine.yaml").write_text(text)
        return build_model(compose_config("backbone=resnet_tiny", "technique/ss=mine"), 4)

    return tapped


def test_what_an_own_tap_puts_into_the_encoder_stays_and_the_encoder_starts_as_ever(tap, compose_config):
    usual = build_model(compose_config("backbone=resnet_tiny"), 4).encoder.backbone.state_dict()
    encoder = tap("Adapted").encoder.backbone
    assert not encoder.adapter.weight.any()
    assert all(torch.equal(value, usual[name]) for name, value in encoder.state_dict().items() if "adapter" not in name)


def test_an_encoder_that_a_tap_calls_pretrained_stays(tap):
    assert all((value == 0.125).all() for name, value in tap("Pretrained").encoder.named_parameters() if "adapter" not in name)


def test_an_encoder_under_another_first_name_is_refused(tap):
    with pytest.raises(ConfigError, match="whose first name for the encoder is backbone"):
        tap("Renamed")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "WideDecoder",
            r"decoder gave \[\(2, 5, 72, 72\), .*\] where place: decoder wants \[\(2, 4, \*, \*\), .*\]",
        ),
        ("OneMap", r"decoder gave \(2, 4, 72, 72\) where place: decoder wants \["),
        ("Unsaid", r"decoder: place: decoder wants a module with auxiliary_weight, which .*Unsaid lacks"),
        (
            "Halved",
            r"decoder: place: decoder calls it with channels=, .*first_upsampling=, but .*Halved does not",
        ),
    ],
)
def test_an_own_decoder_is_tried_before_anything_trains(own_decoder, compose_config, code, message):
    with pytest.raises(ConfigError, match=message):
        build_model(compose_config(*own_decoder(code)), 4)


def test_an_own_decoder_draws_the_same_whatever_its_first_upsampling_draws(own_decoder, compose_config):
    chosen = own_decoder("OwnDecoder")
    models = [build_model(compose_config(*chosen, f"technique/ecre={option}"), 4) for option in ("deconv", "subpixel")]
    assert torch.equal(*(model.decoder.narrow.weight for model in models))


def test_layers_of_one_shape_start_the_same_whatever_stands_before_them(own_decoder, compose_config):
    """The decoder's last layer, and a block of the package in it, behind maps of other widths."""
    chosen = own_decoder("Smoothed")
    encoders = ([], ["backbone=timm", "backbone.name=lcnet_035"])
    models = [build_model(compose_config(*chosen, *encoder), 4).decoder for encoder in encoders]
    assert models[0].narrow.weight.shape != models[1].narrow.weight.shape
    for name in ("smooth.weight", "refine.first.weight", "again.weight"):
        assert torch.equal(*(attrgetter(name)(model) for model in models))
    assert not torch.equal(models[0].smooth.weight, models[0].again.weight)


def test_what_nobody_reads_of_an_own_decoder_may_be_anything(own_decoder, compose_config):
    chosen = own_decoder("WithoutFirst")
    model = build_model(compose_config(*chosen), 4)
    assert model(torch.zeros(2, 3, 64, 64)).scores.shape == (2, 4, 64, 64)
    with pytest.raises(ConfigError, match=r"decoder gave .*no tensor\] where place: decoder wants"):
        build_model(compose_config(*chosen, "technique/ecre=subpixel_supervised"), 4)


def test_a_decoder_whose_file_says_no_levels_is_told_so(tmp_path, own_decoder, compose_config):
    chosen = own_decoder("OwnDecoder")
    file = tmp_path / "decoder" / "mine.yaml"
    file.write_text(file.read_text().replace("levels: [2, 3, 4, 5]\n", ""))
    with pytest.raises(ConfigError, match=r"decoder: its file says neither .* Give it levels"):
        build_model(compose_config(*chosen), 4)


@pytest.mark.parametrize("decoder", ["plain", "aspp"])
def test_an_own_upsampling_is_refused_where_nothing_is_upsampled(own_option, compose_config, decoder):
    own_option("ecre", "Thrice")
    with pytest.raises(ConfigError, match=r"technique/ecre replaces .* Choose technique/ecre=deconv"):
        build_model(compose_config("backbone=resnet_tiny", f"decoder={decoder}", "technique/ecre=mine"), 4)


@pytest.mark.parametrize("decoder", [None, "OwnDecoder"])
def test_an_upsampling_is_held_against_its_scale_in_any_decoder(own_option, own_decoder, compose_config, decoder):
    own_option("ecre", "Thrice")
    chosen = [*(own_decoder(decoder) if decoder else ["backbone=resnet_tiny"]), "technique/ecre=mine"]
    with pytest.raises(ConfigError, match=r"technique/ecre gave \(2, 4, 9, 9\) where place: upsampling wants \(2, 4, 6, 6\)"):
        build_model(compose_config(*chosen), 4)


def test_shapes_are_held_however_a_module_is_called(own_option, own_decoder, compose_config):
    own_option("ecre", "Thrice")
    with pytest.raises(ConfigError, match=r"technique/ecre gave \(2, 4, 9, 9\) where place: upsampling wants \(2, 4, 6, 6\)"):
        build_model(compose_config(*own_decoder("ByName"), "technique/ecre=mine"), 4)


@pytest.mark.parametrize(("slot", "asked"), [("dap", "decoder_channels"), ("ecre", "auxiliary_weight")])
def test_an_own_option_of_the_papers_places_is_asked_for_what_the_model_needs_of_it(own_option, compose_config, slot, asked):
    own_option(slot, "Headless")
    with pytest.raises(ConfigError, match=rf"technique/{slot}: place: \w+ wants a module with {asked}, which .*Headless lacks"):
        build_model(compose_config("backbone=resnet_tiny", f"technique/{slot}=mine"), 4)


def test_what_the_model_says_itself_is_no_setting_of_an_option(tmp_path, add, compose_config):
    add("mine", "levels", 6)
    with (tmp_path / "technique" / "mine" / "on.yaml").open("a") as file:
        file.write("channels: [3]\n")
    with pytest.raises(ConfigError, match=r"technique/mine.channels: the model itself says it: take it out"):
        build_model(compose_config("backbone=resnet_tiny", "technique/mine=on"), 4)


def test_an_error_of_a_modules_own_code_is_left_to_the_training(add, compose_config):
    add("mine", "levels", 6, "tests.models.test_places.Failing")
    model = build_model(compose_config("backbone=resnet_tiny", "technique/mine=on"), 4)  # of larger images it might not fail
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ZeroDivisionError, match="mine"):
        model(torch.zeros(2, 3, 64, 64))


def test_to_be_tried_leaves_no_trace_in_a_model(add, compose_config):
    add("mine", "levels", 6)
    model = build_model(compose_config("backbone=resnet_tiny", "technique/mine=on"), 4)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    statistics = [module.num_batches_tracked for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert statistics
    assert not any(statistics)


def test_an_option_whose_file_names_no_code_is_named(tmp_path, add, compose_config):
    add("mine", "levels", 6)
    (tmp_path / "technique" / "mine" / "empty.yaml").write_text("# A test's.\n")
    with pytest.raises(ConfigError, match="technique/mine=empty: its file names no code"):
        build_model(compose_config("backbone=resnet_tiny", "technique/mine=empty"), 4)
