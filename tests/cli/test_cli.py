"""What a user reads after a typing error: one message that names the valid choices, and no stack trace."""

import os

import pytest

from tests import entry_points


def output_of(*command: str, status: int) -> str:
    usual = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    done = entry_points.run(*command, environment=usual)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("+ablation=sebb", ["ablation/sebb", "seb_ecre", "exfuse"]),
        ("ablation=seb", ["+ablation=seb"]),
        ("+ablaton=seb", ["Did you mean '+ablation'"]),
        ("technique/sebb=product", ["Did you mean 'technique/seb'"]),
        ("technique/seb=prodct", ["Available options in 'technique/seb'", "product", "concat"]),
        ("recipe.epochz=3", ["Did you mean 'epochs'", "Keys of recipe"]),
        ("+recipe.epochz=3", ["nothing reads this key", "Did you mean 'epochs'"]),
        ("recipe.epochs=many", ["expected a number, such as 12"]),
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


@pytest.mark.parametrize(
    "entry",
    [
        "src.train",
        "src.pretrain",
        "src.evaluate",
        "src.predict",
        "src.compare",
        "src.summarise",
        "src.chain",
        "src.submission",
        "src.prepare",
    ],
)
def test_every_entry_point_explains_itself(entry: str) -> None:
    assert f"python -m {entry}" in output_of(entry, "--help", status=0)
