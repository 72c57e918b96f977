"""What a user reads after a typing error: one message that names the valid choices, and no stack trace."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from exfuse.cli.help import groups_of, help_of, own_options, verb_help
from exfuse.cli.verbs import VERBS, Verb
from exfuse.cli.words import read_command
from exfuse.config.read import PLACES
from exfuse.config.signatures import signature
from exfuse.errors import UsageError
from tests import entry_points
from tests.command import Command
from tests.conftest import REPOSITORY
from tests.pace import patience, processor

FORMER = {"tabulate", "summarise", "rescore", "prepare"}


def output_of(*command: str, status: int) -> str:
    usual = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    done = entry_points.run(*command, environment=usual)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("+ablation=sebb", ["ablation=sebb: there is no such option. Did you mean 'seb'?", "seb_ecre", "exfuse"]),
        ("ablation=sebb", ["ablation=sebb: there is no such option. Did you mean 'seb'?"]),
        ("lr=0.1", ["Did you mean recipe.lr or pretraining.recipe.lr?"]),
        ("recipe.optimizer.lr=0.1", ["Did you mean recipe.lr or"]),
        ("+ablaton=seb", ["Did you mean '+ablation'"]),
        ("technique/sebb=product", ["Did you mean 'technique/seb'"]),
        ("technique/seb=prodct", ["Did you mean 'product'? Options of technique/seb", "concat"]),
        ("data.root=", ["data.root=: expected text"]),
        ("recipe.epochz=3", ["Did you mean 'epochs'", "Keys of recipe"]),
        ("+recipe.epochz=3", ["nothing reads this key", "Did you mean 'epochs'"]),
        ("recipe.epochs=many", ["expected a whole number of at least 1"]),
        ("technique.dap.windw=3", ["Did you mean", "window"]),
        ("+trainer.max_stepz=3", ["no such argument", "Did you mean 'max_steps'"]),
    ],
)
def test_a_typing_error_is_answered_with_the_valid_choices(override: str, expected: list[str]) -> None:
    first = ["technique/dap=wide"] if override.startswith("technique.dap") else []
    text = output_of("src.train", *first, override, status=1)
    for words in expected:
        assert words in text
    assert "Traceback" not in text


def test_a_wrong_data_root_is_one_clear_message() -> None:
    text = output_of("src.train", "data=voc", "data.root=/no/such/folder", status=1)
    assert "/no/such/folder/JPEGImages" in text
    assert "data.root" in text
    assert "Traceback" not in text
    assert "Error executing job" not in text


def test_the_stack_trace_is_there_for_who_asks() -> None:
    asks = os.environ | {"HYDRA_FULL_ERROR": "1"}
    done = entry_points.run("src.train", "data=voc", "data.root=/no/such/folder", environment=asks)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_a_config_work_and_help_on_two_screens(verb: Verb) -> None:
    for thing in verb.things:
        keys = [option.key for option in own_options(verb.config)]
        assert thing.key in [*keys, *groups_of(verb.config)]
    text = verb_help(verb)
    assert f"Usage: exfuse {verb.name}" in text
    assert f"  exfuse {verb.name}" in text  # an example
    assert len(text.splitlines()) <= 120
    arguments = signature(verb.target).arguments
    taken = {option.key.replace(".", "_") for option in own_options(verb.config)} | {*groups_of(verb.config)}
    assert not verb.work or {name for name, one in arguments.items() if not one.optional} <= taken | {
        place.replace(".", "_") for place in PLACES
    }


@pytest.mark.parametrize("words", ["--help", "train --help", "runs", "study list", "data check --cfg job source=voc"])
def test_what_needs_no_model_answers_in_less_than_a_second_without_torch(words: str, tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom exfuse.__main__ import do\n"
        f"do({words.split()!r})\n"
        "print('torch' in sys.modules, sum(os.times()[:2]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    torch, seconds = done.stderr.split()[-2:]
    assert torch == "False"
    assert float(seconds) < processor(1, float(seconds))


def test_the_command_fits_on_one_screen() -> None:
    lines = help_of([]).splitlines()
    assert len(lines) <= 45
    assert all(any(line.startswith(f"  {verb.name} ") for line in lines) for verb in VERBS)


def test_help_of_a_group_or_a_setting_says_all_of_it() -> None:
    assert "pixels that are known count less" in help_of(["train", "loss"])
    assert "last_control" in help_of(["train", "technique/dap"])
    assert [line.split("=")[0].strip() for line in help_of(["train", "sweep.most"]).splitlines()] == ["sweep.most"]
    assert all(line.startswith("  sweep.") for line in help_of(["train", "sweep"]).splitlines())
    with pytest.raises(UsageError, match="swep: no config group or option"):
        help_of(["train", "swep"])


@pytest.mark.parametrize("word", sorted(path.stem for path in (REPOSITORY / "src").glob("*.py")))
def test_every_word_works_from_a_checkout(word: str) -> None:
    assert f"exfuse {word}" in output_of(f"src.{word}", "--help", status=0) or word in FORMER


def test_every_verb_works_from_a_checkout() -> None:
    words = {path.stem for path in (REPOSITORY / "src").glob("*.py")}
    assert words == {verb.name.split()[0] for verb in VERBS} | FORMER


@pytest.mark.parametrize(
    ("typed", "verb", "arguments", "things", "note"),
    [
        ("train -m +ablation=seb seed=0,1", "train", ["-m", "+ablation=seb", "seed=0,1"], {}, ""),
        ("train ablation=seb study=s", "train", ["+ablation=seb", "+study=s"], {}, ""),
        ("train --cfg job --config-dir x", "train", ["--cfg", "job", "--config-dir", "x"], {}, ""),
        ("evaluate 3f2a protocol=sliding", "evaluate", ["protocol=sliding"], {"checkpoint": "3f2a"}, ""),
        ("predict R a.jpg b.jpg --output X", "predict", ["output=X"], {"run": "R", "images": ["a.jpg", "b.jpg"]}, "output=X"),
        ("export R --size 40 64", "export", ["size=[40,64]"], {"run": "R"}, "--size 40 64 is now size=[40,64]"),
        ("export R --dynamic", "export", ["size=null"], {"run": "R"}, "--dynamic is now size=null"),
        ("tabulate --check experiments", "study check", [], {"studies": ["experiments"]}, "exfuse study check"),
        ("tabulate a b", "study tabulate", [], {"studies": ["a", "b"]}, "exfuse study tabulate"),
        ("summarise F --classes a,b", "runs summarise", ["classes=[a,b]"], {"folder": "F"}, "classes=[a,b]"),
        ("prepare voc paths.data=D", "data prepare", ["paths.data=D", "source=voc"], {}, "exfuse data prepare"),
        ("prepare imagenet-check", "data check", ["source=imagenet"], {}, "exfuse data check"),
        ("runs --config-dir D json=true", "runs list", ["--config-dir", "D", "json=true"], {}, ""),
        ("report page study=S", "report page", [], {"study.folder": "S"}, ""),
        ("study figures study=S,T quiet=true", "study figures", ["quiet=true"], {"studies": ["S", "T"]}, ""),
        ("compare run=a b", "compare", [], {"runs": ["a", "b"]}, ""),
        ("evaluate run=a", "evaluate", [], {"checkpoint": "a"}, ""),
        ("evaluate checkpoint=12e45678", "evaluate", [], {"checkpoint": "12e45678"}, ""),
        ("export run=30412278", "export", [], {"run": "30412278"}, ""),
        ("runs summarise folder='2024'", "runs summarise", [], {"folder": "2024"}, ""),
        ("compare runs=[a,b] c", "compare", [], {"runs": ["a", "b", "c"]}, ""),
        ("compare runs=a[1],b[2]", "compare", [], {"runs": ["a[1]", "b[2]"]}, ""),
        ("predict R images=['a,b.jpg',\"c.jpg\"]", "predict", [], {"run": "R", "images": ["a,b.jpg", "c.jpg"]}, ""),
        ("runs rm runs=[]", "runs rm", [], {"runs": []}, ""),
        ("evaluate checkpoint=a,b -m", "evaluate", ["checkpoint=a,b", "-m"], {}, ""),
        ("report features study=null", "report features", [], {"study.folder": None}, ""),
        ("report page study='a'", "report page", [], {"study.folder": "a"}, ""),
        ("runs list data='voc' recipe=null", "runs list", [], {"data": "voc", "recipe": None}, ""),
        ("report features checkpoint=null", "report features", [], {"checkpoint": None}, ""),
        ("chain --plan seed=1", "chain", ["plan=true"], {"overrides": ["seed=1"]}, "plan=true"),
        ("budget +study=s tflops=9", "budget", ["tflops=9"], {"overrides": ["+study=s"]}, ""),
        ("budget study=s ablation=seb", "budget", [], {"overrides": ["+study=s", "+ablation=seb"]}, ""),
        ("study vary a=1,2 baseline=a=1 -m", "train", ["+study=vary", "a=1,2", 'study.baseline="a=1"', "-m"], {}, ""),
        ("bench --only models --strict", "bench", ["only=[models]", "strict=true"], {}, "strict=true"),
        ("train seed=1 recipe=small seed=1", "train", ["seed=1", "recipe=small", "seed=1"], {}, ""),
        ("train seed=1 ++seed=2", "train", ["seed=1", "++seed=2"], {}, ""),
        ("train seed=1 seed=2", "train", ["seed=1", "seed=2"], {}, "seed=2 replaces seed=1, which was typed before it"),
        ("train backbone=a backbone=b", "train", ["backbone=a", "backbone=b"], {}, ""),
        ("predict R size=1 size=2", "predict", ["size=1", "size=2"], {"run": "R"}, "size=2 replaces size=1"),
    ],
)
def test_words_are_read(typed: str, verb: str, arguments: list[str], things: dict[str, object], note: str) -> None:
    command = read_command(typed.split())
    assert (command.verb.name, command.arguments, command.things) == (verb, arguments, things)
    assert note in " ".join(command.notes)
    assert bool(note) == bool(command.notes)


def test_a_word_that_is_too_long_for_a_file_is_one_line(command: Command) -> None:
    status, _, told = command("predict", "x=" + "x" * 5000, "a.jpg", "device=cpu")
    assert status in (1, 2)
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["runs", "rename"], "runs summarise"),
        (["runs", "shw"], "did you mean exfuse runs show?"),
        (["train", "seb"], "seb: not understood. Usage"),
        (["train", "recipe.epochs", "3"], "recipe.epochs: not understood. recipe.epochs=3, perhaps?"),
        (["export", "a", "run=b"], "a: not understood"),
        (["chain", 'overrides=["recipe.epochs=1"]', "+ablation=exfuse"], "type each of them by itself, key=value"),
        (["predict", "R", "--colour", "red"], "--colour: no such option"),
        (["train", "--config-dir"], "--config-dir: expected what it is to be behind it, such as --config-dir conf."),
        (["predict"], "run is not set: which RUN?"),
        (["runs", "rm", "runs=", "yes=true"], "runs=: an empty text names nothing"),
        (["runs", "rm", "runs=[a,]", "yes=true"], "runs=[a,]: an empty text names nothing"),
        (["runs", "rm", "runs=[]", "yes=true"], "runs is not set"),
        (["--colour"], "expected a verb"),
    ],
)
def test_a_command_that_cannot_be_read_is_one_line_and_status_2(command: Command, words: list[str], says: str) -> None:
    status, _, told = command(*words)
    assert status == 2
    assert says in told
    assert told.count("\n") == 1


def test_completion_knows_verbs_groups_options_and_keys() -> None:
    script = f"""{output_of("exfuse", "--completion", "bash", status=0)}
    exfuse() {{ {sys.executable} -m exfuse "$@"; }}
    ask() {{ COMP_LINE=$1 COMP_POINT=${{#1}}; COMPREPLY=(); _exfuse; echo "${{COMPREPLY[*]}}"; }}
    ask "exfuse ex"; ask "exfuse study "
    ask "exfuse train recipe.ep"; ask "exfuse train technique/seb=pro"; ask "exfuse chain back"
    """
    done = subprocess.run(["bash", "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    verb, words, key, option, handed_on = done.stdout.splitlines()
    assert verb.split() == ["export"]
    assert words.split() == ["list", "new", "vary", "import", "watch", "tabulate", "figures", "check"]
    assert key.split() == ["recipe.epochs="]
    assert option.split() == ["product"]
    assert "backbone=" in handed_on.split()


@pytest.mark.parametrize(
    ("module", "work", "words"),
    [("exfuse.sweeps.watching", "watch", ["study", "watch"]), ("exfuse.config.read", "describe", ["train", "trainer=cpu"])],
    ids=["watching", "about to train"],
)
def test_whatever_is_asked_to_end_says_so(tmp_path: Path, module: str, work: str, words: list[str]) -> None:
    """By SIGTERM, by which schedulers end what somebody started, as by Ctrl-C."""
    slow = "lambda *_, **__: (print('at it', flush=True), time.sleep(60))"
    code = f"import time, {module}; {module}.{work} = {slow}; from exfuse.__main__ import main; main()"
    words = [sys.executable, "-c", code, *words]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "at it\n"
        child.terminate()
        _, told = child.communicate(timeout=patience(60))
    assert (child.returncode, "interrupted." in told) == (130, True), told
