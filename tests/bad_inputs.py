"""What a user may type wrongly, for every verb, in one process without torch:  python -m tests.bad_inputs FOLDER"""

import contextlib
import importlib.abc
import io
import json
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from exfuse.__main__ import do
from exfuse.cli.verbs import VERBS, Verb
from exfuse.cli.words import own_keys
from tests import composing

OF_ANY_VERB = (*("nokey=1", "+nokey=1", "--nooption", "paths.runs=["),)
OF_A_RUN = ("no_such_run", "FOLDER/empty", "FOLDER/file.txt")
OF_A_DEVICE = ("device=gpu", "device=3", "device=cuda:x", "device=")
OF_A_STUDY = ("FOLDER/nowhere", "FOLDER/garbage")
OF_TRAINING = (
    *(
        "recipe=0",
        "recipe=null",
        "recipe=[a,b]",
        "recipe=nothing",
        "data=nothing",
        "data=3.5",
        "+ablation=nothing",
        "+ablation=1",
    ),
    *("+study=nothing", "seed=-1", "seed=x", "seed=1.5", "recipe.epochs=0", "recipe.epochs=null", "recipe.lr=nan"),
    *("recipe.lr=-1", "recipe.lr=1e30", "recipe.batch_size=0", "recipe.augmentation.scale=[2,1]", "recipe.val_every=-3"),
    *(
        "loss=nothing",
        "loss=3",
        "loss.smoothing=1",
        "loss.class_weights=rare",
        "stop.share=0.3",
        "stop.patience=0",
        "stop.epochs=9999",
    ),
    *("recipe.ema_decay=1", "+stop.floors=[0.1]", "+stop.every=2", "loss=x/..", "+loss.gamma=2", "loss.weights.dice=0"),
    *("recipe.schedule=nothing", "optimizer@recipe.optimizer=nothing", "recipe.optimizer.momentum=2", "trainer.max_epochs=3"),
    *("+trainer.max_time=1", "+trainer.callbacks=[]", "+trainer.fast_dev_run=true", "trainer.precision=8", "trainer=nothing"),
    *("trainer.devices=0", "runtime.workers=-2", "runtime.cache=tape", "runtime.cache_share=2", "runtime.threads=0"),
    *("runtime.checkpoint_every=0", "backbone.output_stride=7"),
    *("backbone.arguments={checkpoint_path:x}", "technique/seb=nothing", "technique/seb=1", "decoder=nothing"),
    *("decoder.levels=[9]", "decoder.levels=3", "decoder.kernel=4", "data.root=", "data.size=0", "data.images.train=0"),
    *("data.images=3", "debug.images=0", "debug=nothing", "sweep.most=0", "sweep.most.seeds=0", "sweep.hung=-1", "sweep=3"),
    *("sweep.missing=maybe", "held_out.share=1", "held_out=2", "init_from=nowhere", "overwrite=maybe", "logger=nothing"),
    *("backbone=nothing", "backbone.missing=perhaps", "pretraining=nothing", "name=[1]", "paths.data=", "recipe.lr="),
    *("recipe.lr=${nothing}", "recipe.lr=${oc.env:NOTHING_AT_ALL}", "recipe.lr=0.1 0.2", "recipe.lr", "~recipe", "~seed"),
    *(
        "technique=none",
        "technique.dap.windw=3",
        "slot=dap",
        "~technique/dap=3",
        "backbone.init=nowhere.pth",
        "pretraining.start=nowhere.pt",
        "hydra.searchpath=[pkg://nopkg.sub]",
    ),
    *("hydra.searchpath=null", "hydra.searchpath=nowhere", "~technique/dap", "~logger", "~decoder"),
    *(
        "data=scenes/..",
        "data=../recipe/voc",
        "optimizer@recipe.optimiser=sgd",
    ),
)
OF_A_SWEEP = (  # in its last row, which is said before the first is trained
    *("seed=0,-1", "seed=0,x", "seed=0,1.5", "debug.images=4,0", "sweep.hung=-1 seed=0,1", "sweep.parallel=1,2"),
    *("technique/dap=none,wide technique.dap.window=4", "name=a,[1]", "trainer.max_epochs=1,3"),
)


def typed(verb: Verb) -> list[list[str]]:
    """Command lines that no verb should take."""
    words, things = verb.name.split(), [thing for thing in verb.things if not thing.word.startswith("[")]
    given = ["x" if thing.key != "source" else "voc" for thing in things]
    found = [[*words, *given, wrong] for wrong in OF_ANY_VERB if not (wrong.startswith("paths") and verb.name in NOWHERE)]
    if verb.name == "budget":  # whose overrides are of trainings that it counts, with torch
        found = [found[2]]
    optional = [thing for thing in verb.things if thing.is_run and thing not in things]
    if optional or (things and things[0].is_run):
        rest = given[1:]
        found += [[*words, wrong, *rest] for wrong in OF_A_RUN] + [words] * (not optional)
    elif things and "STUDY" in things[0].word:
        found += [[*words, wrong] for wrong in OF_A_STUDY] + [words]
    if "device" in own_keys(verb):
        found += [[*words, *(["FOLDER/empty"] * len(given)), wrong] for wrong in OF_A_DEVICE]
    if not verb.work:
        found += [[*words, wrong] for wrong in OF_TRAINING[:: 1 if verb.name == "train" else 4]]
        found += [[*words, "-m", *wrong.split()] for wrong in OF_A_SWEEP[:: 1 if verb.name == "train" else 4]]
    if verb.name == "pretrain":
        found += [[*words, "sweep.until=decided"], [*words, "-m", "seed=0,1", "sweep.until=decided"]]  # there is no table
    return found


WORD = "torch would be imported"
NOWHERE = ("study list", "bench")  # they read no path


class WithoutTorch(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets everybody find where torch lies and nobody import it: signatures are read from its sources."""

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name != "torch" or (found := PathFinder.find_spec(name)) is None:
            return None
        found.loader = self
        return found

    def create_module(self, spec: ModuleSpec) -> None:  # noqa: ARG002
        raise ImportError(WORD)


def main(folder: Path) -> None:
    """Try all of them; print what was not answered as it should be, and how many there were."""
    sys.meta_path.insert(0, WithoutTorch())  # whoever imports it fails, and is found
    composing.remember()
    os.chdir(folder)
    (folder / "empty").mkdir()
    (folder / "garbage").mkdir()
    (folder / "file.txt").write_text("no run")
    for name in ("record.json", "study.json"):
        (folder / "garbage" / name).write_bytes(b"\x00\xff{")
    tried, wrong = 0, list[str]()
    for verb in VERBS:
        for words in typed(verb):
            words = [word.replace("FOLDER", str(folder)) for word in words]
            tried += 1
            os.environ["HYDRA_FULL_ERROR"] = "0"
            status, said, errors = 0, io.StringIO(), io.StringIO()
            try:
                with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
                    do(words)
            except SystemExit as left:
                status = int(left.code or 0)
            except BaseException as error:
                errors.write(f"Traceback: {type(error).__name__}: {str(error).splitlines()[:1]}")
            told = errors.getvalue()
            told_otherwise = any(bad in told for bad in ("Traceback", "Error executing", WORD))
            if status not in (1, 2) or "Error: " not in told or told_otherwise:
                wrong.append(f"{' '.join(words)}: {status}, {told[-300:]}")
    print(json.dumps({"tried": tried, "wrong": wrong}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
