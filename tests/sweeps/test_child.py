"""What a supervisor reads off a child that ended."""

import pytest

from exfuse.sweeps.child import Ended, _complaint, _environment


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (["warning: x", "Error: data not found.", "Set data.root."], "data not found."),
        (["Traceback (most recent call last):", "  File x", "ValueError: too big", ""], "ValueError: too big"),
        ([], ""),
    ],
)
def test_the_complaint_is_the_line_that_says_what_is_wrong(lines: list[str], complaint: str) -> None:
    assert _complaint(lines) == complaint


def test_a_child_does_not_take_the_supervisors_cluster_job_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    environment = _environment()
    assert environment["OMP_NUM_THREADS"] == "3"
    assert not {"SLURM_NTASKS", "HYDRA_FULL_ERROR"} & environment.keys()


def test_a_held_run_is_told_from_a_failed_one() -> None:
    assert Ended(75, "", False).held
    assert not Ended(1, "", False).held
