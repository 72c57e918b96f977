"""THE table of what the command does, from which dispatch, help, completion and the reference follow; imports nothing heavy."""

from typing import NamedTuple

RUN = "RUN"  # a thing that is a run: its name, its key or the first digits of it, or its folder


class Thing(NamedTuple):
    """A word of the command line that is neither an option nor a verb.

    Attributes:
        word: as the help shows it, such as ``RUN``; ``...`` behind it allows several, brackets let it be left out. One such as
            ``techniques=A,B`` is typed behind its key, as a list that is no sweep.
        key: of the config that it sets.
    """

    word: str
    key: str

    @property
    def many(self) -> bool:
        return "..." in self.word

    @property
    def name(self) -> str:
        """By which it may be typed, too: ``study=FOLDER``."""
        return self.word.strip("[.]").lower()

    @property
    def is_run(self) -> bool:
        return self.name == RUN.lower()


class Verb(NamedTuple):
    """One thing that the command can do. Its config is ``conf/NAME.yaml``, with ``_`` for the blank in a name of two words.

    Attributes:
        name: one word or two.
        does: what for, in a line.
        things: words that it takes besides options.
        torch: whether its work loads torch.
        formerly: what it was called in earlier versions, which still works.
        short_for: the verb and the chosen option that it stands for, whose file is then its config.
    """

    name: str
    does: str
    things: tuple[Thing, ...] = ()
    torch: bool = True
    formerly: str = ""
    short_for: tuple[str, str] | None = None

    @property
    def config(self) -> str:
        return self.short_for[1].replace("=", "/") if self.short_for else self.name.replace(" ", "_")

    @property
    def describes(self) -> bool:
        """Whether its config describes a run: a function in `exfuse.cli.training` of the verb's name takes it whole."""
        return self.name not in _WORK

    @property
    def target(self) -> str:
        """The function that does it; its arguments are the keys of the config."""
        return f"exfuse.{_WORK.get(self.name) or f'cli.training.{self.short_for[0] if self.short_for else self.name}'}"

    @property
    def asks(self) -> str:
        """The function, without torch, that holds what was named against what is there before the work is loaded; or empty."""
        return f"exfuse.runs.asked.{_ASKED[self.name]}" if self.name in _ASKED else ""

    @property
    def usage(self) -> str:
        return " ".join(["exfuse", self.name, *(thing.word for thing in self.things), "[key=value ...]"])


_RUN = (Thing(RUN, "run"),)
_RUNS = (Thing(f"{RUN}...", "runs"),)
_STUDY = (Thing("STUDY", "study.folder"),)
_STUDIES = (Thing("STUDY...", "studies"),)
_FOLDER = (Thing("FOLDER", "folder"),)
_FORMAT = (Thing("FORMAT", "format"),)
_SET = (Thing("SET", "source"),)
_NEW = (Thing("KIND", "kind"), Thing("techniques=A,B", "techniques"))
_OVERRIDES = (Thing("[OVERRIDE...]", "overrides"),)

VERBS = (
    Verb("train", "train one variant; with +study=NAME or -m all of a study or sweep, to its table"),
    Verb("pretrain", "pretrain the backbone of a variant, where SS and LR act"),
    Verb("evaluate", "score a run on any data, on one or several scales", (Thing(RUN, "checkpoint"),)),
    Verb("predict", "label your own photographs", (*_RUN, Thing("IMAGE...", "images"))),
    Verb("export", "write a run's model as one file, ONNX or torch.export, checked", _RUN),
    Verb("compare", "runs side by side: a table per class and a picture", _RUNS),
    Verb("runs list", "the runs that there are: name, data, recipe, seed, status, mIoU, date, size", torch=False),
    Verb("runs show", "what a run's record says", _RUN, torch=False),
    Verb("runs rm", "remove runs, after a question", _RUNS, torch=False),
    Verb("runs du", "how much of the disk runs, backbones and caches take", torch=False),
    Verb("runs log", "send finished runs to a tracker", _RUNS),
    Verb("runs summarise", "mean and spread over seeds, of runs or backbones", _FOLDER, torch=False, formerly="summarise"),
    Verb("runs rescore", "score finished runs again, after a measure was mended", _RUNS, formerly="rescore"),
    Verb("study list", "the studies that can be trained, and their questions", torch=False),
    Verb("study new", "write the file of a study of your techniques", _NEW, torch=False),
    Verb("study vary", "any settings against each other, as rows of a table", short_for=("train", "study=vary")),
    Verb("study import", "a study of results that other code wrote, of any metric", _FOLDER, torch=False),
    Verb("study watch", "how far a sweep is, from another terminal", (Thing("[SWEEP]", "sweep"),), torch=False),
    Verb("study tabulate", "render tables and figures from records", _STUDIES, torch=False, formerly="tabulate"),
    Verb("study figures", "draw them for a paper: SVG, PNG and PDF, of a column's and a page's width", _STUDIES, torch=False),
    Verb("study check", "fail if a table is not what its records give", _STUDIES, torch=False),
    Verb("report page", "one HTML file a study, to open in any browser", _STUDY),
    Verb("report features", "what SEB does to low-level maps: pictures and numbers", (Thing("[RUN...]", "checkpoint"),)),
    Verb("report probe", "what linear classifiers read from maps before and after SEB", (Thing("[RUN...]", "checkpoint"),)),
    Verb("report costs", "latency, throughput and memory of all rows, in one process", _STUDY),
    Verb("report wandb", "a comparison report and a workspace view at W&B", _STUDY, torch=False),
    Verb("report tensorboard", "a study's tables and figures for TensorBoard", _STUDY),
    Verb("data prepare", "fetch and check a data set: voc, sbd, coco, coco-masks", _SET, torch=False, formerly="prepare"),
    Verb("data convert", "polygons of COCO's format or labelme's to data=folder", _FORMAT, torch=False),
    Verb("data check", "is a data set whole, can it be trained on? fetches nothing", (Thing("[SET]", "source"),), torch=False),
    Verb("submission make", "the VOC test server's archive of a run", _RUN),
    Verb("submission check", "would the server accept an archive?", (Thing("[ARCHIVE]", "archive"),), torch=False),
    Verb("chain", "train the paper's three stages, each from the one before", _OVERRIDES, torch=False),
    Verb("budget", "hours of a study, counted before anything is trained", _OVERRIDES),
    Verb("bench", "measure speed against references"),
)

_WORK = {  # by verb, what does it
    "evaluate": "runs.evaluation.evaluate",
    "predict": "runs.prediction.predict",
    "export": "exporting.command.export",
    "compare": "runs.comparison.compare",
    "runs list": "cli.runs.list_all",
    "runs show": "cli.runs.show",
    "runs rm": "cli.runs.rm",
    "runs du": "cli.runs.du",
    "runs summarise": "runs.summary.summarise",
    "runs log": "runs.telling.log_runs",
    "runs rescore": "runs.evaluation.rescore",
    "study list": "cli.study.list_all",
    "study new": "sweeps.new_study.write_new_study",
    "study import": "importing.command.import_study",
    "study watch": "sweeps.watching.watch",
    "study tabulate": "cli.study.tabulate",
    "study figures": "cli.study.figures",
    "study check": "cli.study.check",
    "report page": "reports.page.command.make",
    "report features": "reports.features.command.show_features",
    "report probe": "reports.probe.command.probe_features",
    "report costs": "reports.costs.command.measure_costs",
    "report wandb": "reports.wandb_report.report_to_wandb",
    "report tensorboard": "reports.tensorboard_report.report_to_tensorboard",
    "data prepare": "data_setup.preparing.prepare",
    "data check": "data_setup.preparing.check",
    "data convert": "data_setup.converting.convert",
    "submission make": "runs.submission.make_submission",
    "submission check": "runs.submission.check_submission",
    "chain": "sweeps.chain.train_chain",
    "budget": "sweeps.estimating.estimate",
    "bench": "benchmarks.command.bench",
}

_ASKED = {  # by verb, what of `exfuse.runs.asked`
    "evaluate": "evaluate",
    "predict": "predict",
    "export": "finished",
    "compare": "compared",
    "runs log": "scored",
    "runs rescore": "scored",
    "report features": "looked_into",
    "report probe": "looked_into",
    "report costs": "study",
    "submission make": "weights",
}
