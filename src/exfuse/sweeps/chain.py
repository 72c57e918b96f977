"""A chain of runs, each from the whole model of the one before: finished ones are skipped, the rest are trained one by one."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from hydra.core.hydra_config import HydraConfig  # noqa: F401 - registers Hydra's resolvers before configs are composed
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from exfuse.config.overrides import compose_config, describe_run
from exfuse.data.split import Split, same_images
from exfuse.errors import ConfigError, DataError, HeldError, UserError, plural
from exfuse.runs.child import run_child
from exfuse.runs.micro_batch import settle
from exfuse.runs.plan import plan_run
from exfuse.store.checked import typed as check
from exfuse.store.description import Option
from exfuse.store.folder import RunFolder
from exfuse.sweeps.supervisor import judge
from exfuse.terminal import Console, RichTable, table_columns

_OWN = ("data", "recipe")  # each stage has its own
_ABSENT = object()
_PAPER = {"coco": "paper: 109,892 [N]"}  # N: second-hand


class DeclaredStage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stage as conf/chain declares it: its data set, its recipe, and what else is typed for it."""

    data: str
    recipe: str
    overrides: list[str] = []


class Stage(NamedTuple):
    """One run of a chain.

    Attributes:
        name: of the stage.
        overrides: for ``exfuse train``.
        folder: of its run, known before anything is trained: a stage's key holds the key of the stage before.
        images: how many it trains on.
        data: name of the data set.
        epochs: of its recipe.
        overwrite: whether a finished run counts for nothing.
    """

    name: str
    overrides: list[str]
    folder: RunFolder
    images: int
    data: str
    epochs: int
    overwrite: bool

    def is_done(self) -> bool:
        return not self.overwrite and self.folder.finished() is not None


def train_chain(chain: Option, plan: bool, overrides: list[str]) -> None:
    """Plan a chain, show it and, unless only the plan was asked for, train it.

    Args:
        chain: its stages, see `plan_chain`.
        plan: show it alone.
        overrides: of every stage.

    Raises:
        UserError: see `plan_chain` and `run_chain`.
    """
    stages, console = plan_chain(chain.settings["stages"], overrides), Console()
    console.print(chain_table(stages))
    if not plan:
        run_chain(stages, console)
        console.print(chain_table(stages))
        console.print(f"The model of the last stage: {stages[-1].folder.path}", soft_wrap=True)


def plan_chain(stages: Mapping[str, Any], typed: Sequence[str]) -> list[Stage]:
    """Compose every stage and find its run, without torch, so that a mistake in the last one is found before the first trains.

    Args:
        stages: ``chain.stages`` of conf/chain.yaml.
        typed: overrides of every stage, as ``exfuse train`` takes them. One of ``data.KEY`` reaches the stages whose
            data config has that key; ``init_from`` is the first stage's, the others start from the stage before them.

    Raises:
        ConfigError: if an override is one that each stage has for itself, or none has; see also `plan_run`.
        HydraException: if a stage does not compose.
        DataError: if the data of any stage cannot be used, or it is scored on what a stage before it learns from.
    """
    remedy = "See conf/chain/three_stages.yaml."
    if not stages:
        raise ConfigError(f"chain.stages is empty: a chain needs a stage. {remedy}")
    declared = {name: check(stage, DeclaredStage, f"chain.stages.{name}", "a stage", remedy) for name, stage in stages.items()}
    overrides = {name: _overrides(stage, typed) for name, stage in declared.items()}
    for override in typed:
        if not any(override in own for own in overrides.values()):
            raise ConfigError(f"{override}: no stage's data have this key. The stages: {_describe(declared)}.")
    planned, learnt = list[Stage](), dict[str, Split]()
    for name, own in overrides.items():
        if planned:
            own.append(f"init_from={planned[-1].folder.key}")
        run, folder, splits, _ = plan_run(settle(describe_run(own)))
        _check_unseen(name, splits, learnt)
        learnt[name] = splits["train"]
        data = str(run.data.settings["name"])
        planned.append(Stage(name, own, folder, len(splits["train"]), data, run.recipe.epochs, run.overwrite))
    return planned


def _check_unseen(stage: str, splits: Mapping[str, Split], learnt: Mapping[str, Split]) -> None:
    for name, split in splits.items():
        for before, train in learnt.items() if name != "train" and not split.seen else ():
            if shared := same_images([item.image for item in split.items], [item.image for item in train.items]):
                remedy = ", or set stop.epochs instead of stop.patience" if name == "stop" else ""
                raise DataError(
                    f"Stage {before} learns from {plural(len(shared), 'image')} that stage {stage} is scored on, e.g. "
                    f"{shared[0]}. Leave them out of one of the two{remedy}."
                )


def run_chain(stages: Sequence[Stage], console: Console) -> None:
    """Train what is not done of a chain, each stage in a process of its own.

    Raises:
        UserError: if a stage fails or is killed, with its reason; the stages after it are not started.
        HeldError: if another process trains a stage.
        KeyboardInterrupt: after Ctrl-C; the last finished epoch is kept.
    """
    before: Stage | None = None
    for number, stage in enumerate(stages, 1):
        title = f"Stage {number} of {len(stages)}, {stage.name}"
        if before is not None and _is_stale(stage, before):
            console.print(f"{title}: run {stage.folder.key} began with another model of stage {before.name}: trained anew.")
            stage = stage._replace(overrides=[*stage.overrides, "overwrite=true"], overwrite=True)
        before = stage
        if stage.is_done():
            console.print(f"{title}: run {stage.folder.key} is done.")
            continue
        console.rule(title, align="left")
        ended = run_child("train", stage.overrides, log=None, relayed=False)
        if ended.held:
            raise HeldError(f"{title}: run {stage.folder.key} is being trained by another process. Wait for it, or stop it.")
        _, reason = judge(stage.folder, ended)
        if ended.interrupted:
            raise KeyboardInterrupt
        if reason:
            raise UserError(f"{title}, run {stage.folder.key}: {reason} The same command goes on with this stage.")


def chain_table(stages: Sequence[Stage]) -> RichTable:
    """What the stages are and how far they have come."""
    words = ("stage", "trained on", "key", "status")
    table = RichTable(*table_columns(("stage", "trained on", "images", "epochs", "key", "status", "mIoU %"), words))
    for stage in stages:
        record = stage.folder.record()
        score = f"{100 * record.scores.miou:.1f}" if record and record.scored else ""
        paper = f"\n{_PAPER[stage.name]}" if stage.name in _PAPER else ""
        status = stage.folder.status(record) if record else "to do"
        table.add_row(stage.name, stage.data, f"{stage.images:,}{paper}", str(stage.epochs), stage.folder.key, status, score)
    return table


def _overrides(stage: DeclaredStage, typed: Sequence[str]) -> list[str]:
    """Of one stage: what was typed and reaches it, its own groups, and its own overrides last, which win."""
    groups = [f"data={stage.data}", f"recipe={stage.recipe}"]
    data, reaching = compose_config("train", groups)[0].data, list[str]()
    for parsed in OverridesParser.create().parse_overrides(list(typed)):
        key = parsed.key_or_group
        if key in _OWN:
            raise ConfigError(
                f"{parsed.input_line}: each stage has its own {key}. Set chain.stages.NAME.{key}, or choose a chain."
            )
        if not key.startswith("data.") or OmegaConf.select(data, key.removeprefix("data."), default=_ABSENT) is not _ABSENT:
            reaching.append(str(parsed.input_line))
    return [*reaching, *groups, *stage.overrides]


def _is_stale(stage: Stage, before: Stage) -> bool:
    """Whether a stage's run, finished or not, began with weights that the stage before has no longer: it was trained anew."""
    record, source = stage.folder.record(), before.folder.record()
    if record is None or source is None:
        return False
    return (record.init_from.checkpoint if record.init_from else None) != source.checkpoint_sha256


def _describe(stages: Mapping[str, DeclaredStage]) -> str:
    return ", ".join(f"{name} (data={stage.data})" for name, stage in stages.items())
