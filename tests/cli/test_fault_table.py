"""The table of faults through `ddrl train`: the run ends or goes on as the recipe says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.command import Result, ddrl, metrics_of
from tests.rewards.faulty import RELEASE

# Of 8 samples in calls of 2, the last call of the second step fails.
FAULTS = {
    "raise": (0.25, r"failed on 2 samples from sample 6 \('[a-z]+'\) on: ValueError: planted"),
    "nan": (0.125, r"returned nan for 1 of 2 samples, the first is sample 6 \('[a-z]+'\)"),
    "inf": (0.125, r"returned inf for 1 of 2 samples, the first is sample 6 \('[a-z]+'\)"),
    "hang": (0.25, r"gave no answer for 2 of 8 samples, from sample 6 \('[a-z]+'\) on, in 1 s"),
}


@pytest.fixture(autouse=True)
def _release() -> Iterator[None]:
    RELEASE.clear()
    yield
    RELEASE.set()


def train(recipe: Path, fault: str, *overrides: str) -> Result:
    return ddrl(
        "train",
        recipe,
        "reward.0.name=tests.rewards.faulty:Faulty",
        f'reward.0.options.fault="{fault}"',
        "reward.0.options.at=7",
        "reward.0.samples_per_call=2",
        "reward.0.timeout=1",
        "run.steps=2",
        "evaluation.every=0",
        *overrides,
    )


@pytest.mark.parametrize("policy", ["drop_sample", "drop_group", "abort"])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_run_ends_or_goes_on_as_set(recipe: Path, fault: str, policy: str) -> None:
    share, cause = FAULTS[fault]
    result = train(recipe, fault, f"scoring.on_failure={policy}", "run.micro_batch=4")
    found = " ".join(result.stderr.split())
    assert re.search(f"reward 'Faulty' {cause}", found), result.stderr
    lines = metrics_of(recipe.parent / "run")
    if policy == "abort":
        result.failed(4)
        assert len(lines) == 1
        return
    assert result.code == 0, result.stderr
    dropped = 0.5 if policy == "drop_group" else share
    assert [line["reward_failed"] for line in lines] == [0, dropped]
    assert lines[1]["reward_failed/Faulty"] == share
    assert 0 < lines[1]["reward"] < 1
    assert lines[1]["reward_min/Faulty"] <= lines[1]["reward/Faulty"]


def test_too_many_failures_end_the_run(recipe: Path) -> None:
    limit = "scoring.max_failed_share=0.2"
    result = train(recipe, "raise", "scoring.on_failure=drop_sample", limit)
    result.failed(4, "25% of the samples have no reward, above the limit of 20%")
    assert "max_failed_share" in result.stderr


@pytest.mark.parametrize("policy", ["drop_sample", "abort"])
def test_a_wrong_shape_ends_the_run(recipe: Path, policy: str) -> None:
    result = train(recipe, "shape", f"scoring.on_failure={policy}")
    result.failed(4, "'Faulty' returned (2, 1) for 2 samples", "one float per sample")


def test_a_slow_one_is_fine(recipe: Path) -> None:
    assert train(recipe, "slow").code == 0
    assert len(metrics_of(recipe.parent / "run")) == 2


HELD_OUT = """
[[evaluation.reward]]
name = "tests.rewards.faulty:Faulty"
timeout = {timeout}
retries = 1
options = {{ fault = "{file}" }}
"""


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("raise", "reward 'Faulty' failed on 80 samples: ValueError: planted, at attempt 2"),
        ("hang", "reward 'Faulty' gave no answer for 80 samples in 1.5 s"),
        ("shape", "Reward 'Faulty' returned (80, 1) for 80 samples, not shape (80,)"),
        ("nan", "reward 'Faulty' returned nan for 1 of 80 samples, the first is sample 0"),
    ],
)
def test_a_held_out_reward_that_fails_is_missing_and_says_why(
    recipe: Path, tmp_path: Path, fault: str, cause: str
) -> None:
    """A run that is finished is evaluated all the same, and the failure is no number."""
    file = tmp_path / "fault"
    file.write_text("none")
    recipe.write_text(recipe.read_text() + HELD_OUT.format(file=file, timeout=1.5))
    assert ddrl("train", recipe, "run.steps=1", "evaluation.every=0").code == 0
    file.write_text(fault)
    result = ddrl("evaluate", recipe.parent / "run", "--json", "--out", tmp_path / "out")
    assert result.code == 0, result.stderr
    assert cause in " ".join(result.stderr.split())
    run = json.loads(result.stdout)["runs"]["run"]
    measure = run["measures"]["Faulty"]
    assert measure["cause"].startswith(cause)
    page = (tmp_path / "out" / "report.html").read_text()
    if fault == "nan":  # of the other samples there is a mean
        assert 0 < measure["value"] < 1
        assert "some samples are missing, since reward" in page
        return
    assert measure["value"] is None
    assert measure["change"] is None
    assert "Faulty" in run["verdict"]["alarms"]
    assert run["verdict"]["status"] != "clean"
    assert "missing, since " in page
