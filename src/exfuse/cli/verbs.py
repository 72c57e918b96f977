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
        work: the function of the package that does it, whose arguments are the keys of the config; empty where that describes a
            run: a function in `exfuse.cli.training` of the verb's name takes it whole.
        things: words that it takes besides options.
        asks: the function of `exfuse.runs.asked`, without torch, that holds what was named against what is there before the
            work is loaded; or empty.
        torch: whether its work loads torch.
        formerly: what it was called in earlier versions, which still works.
        short_for: the verb and the chosen option that it stands for, whose file is then its config.
    """

    name: str
    does: str
    work: str = ""
    things: tuple[Thing, ...] = ()
    asks: str = ""
    torch: bool = True
    formerly: str = ""
    short_for: tuple[str, str] | None = None

    @property
    def config(self) -> str:
        return self.short_for[1].replace("=", "/") if self.short_for else self.name.replace(" ", "_")

    @property
    def target(self) -> str:
        """Where its work, or what takes a run, is imported from."""
        return f"exfuse.{self.work or f'cli.training.{self.short_for[0] if self.short_for else self.name}'}"

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
    Verb(
        "evaluate",
        "score a run on any data, on one or several scales",
        "runs.evaluation.evaluate",
        (Thing(RUN, "checkpoint"),),
        asks="evaluate",
    ),
    Verb(
        "predict", "label your own photographs", "runs.prediction.predict", (*_RUN, Thing("IMAGE...", "images")), asks="predict"
    ),
    Verb(
        "export",
        "write a run's model as one file, ONNX or torch.export, checked",
        "exporting.command.export",
        _RUN,
        asks="finished",
    ),
    Verb("compare", "runs side by side: a table per class and a picture", "runs.comparison.compare", _RUNS, asks="compared"),
    Verb(
        "runs list",
        "the runs that there are: name, data, recipe, seed, status, mIoU, date, size",
        "cli.runs.list_all",
        torch=False,
    ),
    Verb("runs show", "what a run's record says", "cli.runs.show", _RUN, torch=False),
    Verb("runs rm", "remove runs, after a question", "cli.runs.rm", _RUNS, torch=False),
    Verb("runs du", "how much of the disk runs, backbones and caches take", "cli.runs.du", torch=False),
    Verb("runs log", "send finished runs to a tracker", "runs.telling.log_runs", _RUNS, asks="scored"),
    Verb(
        "runs summarise",
        "mean and spread over seeds, of runs or backbones",
        "runs.summary.summarise",
        _FOLDER,
        torch=False,
        formerly="summarise",
    ),
    Verb(
        "runs rescore",
        "score finished runs again, after a measure was mended",
        "runs.evaluation.rescore",
        _RUNS,
        formerly="rescore",
        asks="scored",
    ),
    Verb("study list", "the studies that can be trained, and their questions", "cli.study.list_all", torch=False),
    Verb("study new", "write the file of a study of your techniques", "sweeps.new_study.write_new_study", _NEW, torch=False),
    Verb("study vary", "any settings against each other, as rows of a table", short_for=("train", "study=vary")),
    Verb(
        "study import",
        "a study of results that other code wrote, of any metric",
        "importing.command.import_study",
        _FOLDER,
        torch=False,
    ),
    Verb(
        "study watch",
        "how far a sweep is, from another terminal",
        "sweeps.watching.watch",
        (Thing("[STUDY]", "sweep"),),
        torch=False,
    ),
    Verb(
        "study tabulate",
        "render tables and figures from records",
        "cli.study.tabulate",
        _STUDIES,
        torch=False,
        formerly="tabulate",
    ),
    Verb(
        "study figures",
        "draw them for a paper: SVG, PNG and PDF, of a column's and a page's width",
        "cli.study.figures",
        _STUDIES,
        torch=False,
    ),
    Verb("study check", "fail if a table is not what its records give", "cli.study.check", _STUDIES, torch=False),
    Verb("report page", "one HTML file a study, to open in any browser", "reports.page.command.make", _STUDY),
    Verb(
        "report features",
        "what SEB does to low-level maps: pictures and numbers",
        "reports.features.command.show_features",
        (Thing("[RUN...]", "checkpoint"),),
        asks="looked_into",
    ),
    Verb(
        "report probe",
        "what linear classifiers read from maps before and after SEB",
        "reports.probe.command.probe_features",
        (Thing("[RUN...]", "checkpoint"),),
        asks="looked_into",
    ),
    Verb(
        "report costs",
        "latency, throughput and memory of all rows, in one process",
        "reports.costs.command.measure_costs",
        _STUDY,
        asks="study",
    ),
    Verb(
        "report wandb",
        "a comparison report and a workspace view at W&B",
        "reports.wandb_report.report_to_wandb",
        _STUDY,
        torch=False,
    ),
    Verb(
        "report tensorboard",
        "a study's tables and figures for TensorBoard",
        "reports.tensorboard_report.report_to_tensorboard",
        _STUDY,
    ),
    Verb(
        "data prepare",
        "fetch and check a data set: voc, sbd, coco, coco-masks",
        "data_setup.preparing.prepare",
        _SET,
        torch=False,
        formerly="prepare",
    ),
    Verb(
        "data convert",
        "polygons of COCO's format or labelme's to data=folder",
        "data_setup.converting.convert",
        _FORMAT,
        torch=False,
    ),
    Verb(
        "data check",
        "is a data set whole, can it be trained on? fetches nothing",
        "data_setup.preparing.check",
        (Thing("[SET]", "source"),),
        torch=False,
    ),
    Verb("submission make", "the VOC test server's archive of a run", "runs.submission.make_submission", _RUN, asks="weights"),
    Verb(
        "submission check",
        "would the server accept an archive?",
        "runs.submission.check_submission",
        (Thing("[ARCHIVE]", "archive"),),
        torch=False,
    ),
    Verb(
        "chain", "train the paper's three stages, each from the one before", "sweeps.chain.train_chain", _OVERRIDES, torch=False
    ),
    Verb("budget", "hours of a study, counted before anything is trained", "sweeps.estimating.estimate", _OVERRIDES),
    Verb("bench", "measure speed against references", "benchmarks.command.bench"),
)
