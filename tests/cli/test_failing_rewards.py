"""Timeouts, retries and combinations of rewards, through the command line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.cli.command import ddrl, finish, metrics_of, rows_of, spawn

REWARDS = "reward.0.name=tests.cli.rewards:"
SECOND = """
[[reward]]
name = "tests.cli.rewards:Slow"
weight = 0.5
options = { seconds = 0.0 }
"""


def test_a_reward_that_hangs_ends_the_run_and_not_later_the_process(recipe: Path) -> None:
    overrides = ["reward.0.options.seconds=3600.0", "reward.0.timeout=0.5"]
    start = time.monotonic()
    result = finish(spawn("train", recipe, REWARDS + "Slow", *overrides))
    assert time.monotonic() - start < 50
    result.failed(4, "reward 'Slow' gave no answer for 8 samples in 0.5 s", "a larger timeout")
    assert (recipe.parent / "run" / "metrics.jsonl").read_text() == ""


def test_a_slow_reward_in_time_changes_nothing(recipe: Path) -> None:
    name, options = REWARDS + "Slow", "reward.0.options.seconds=0.01"
    assert ddrl("train", recipe, name, options).code == 0
    elsewhere = f"run.folder={recipe.parent / 'timed'}"
    assert ddrl("train", recipe, name, options, "reward.0.timeout=60", elsewhere).code == 0
    assert metrics_of(recipe.parent / "timed") == metrics_of(recipe.parent / "run")


def test_a_reward_that_raised_once_is_tried_again(recipe: Path) -> None:
    marker = f"reward.0.options.marker={recipe.parent / 'marker'}"
    overrides = [REWARDS + "RaisesOnce", "reward.0.options.at=2", marker, "reward.0.retries=1"]
    result = ddrl("train", recipe, *overrides)
    assert result.code == 0, result.stderr
    assert (
        "reward 'RaisesOnce' failed on 8 samples: ValueError: the reward's server is down; "
        "trying again in 1 s" in result.stderr
    )
    assert len(metrics_of(recipe.parent / "run")) == 4


def test_a_run_goes_on_without_the_samples_of_a_call_that_raised(recipe: Path) -> None:
    marker = f"reward.0.options.marker={recipe.parent / 'marker'}"
    overrides = [REWARDS + "RaisesOnce", "reward.0.options.at=6", marker]
    overrides += ["reward.0.samples_per_call=2", "scoring.on_failure=drop_sample"]
    result = ddrl("train", recipe, *overrides)
    assert result.code == 0, result.stderr
    assert "reward 'RaisesOnce' failed on 2 samples from sample 2 ('" in result.stderr
    failed = [line["reward_failed"] for line in metrics_of(recipe.parent / "run")]
    assert failed == [0, 0.25, 0, 0]


@pytest.mark.parametrize("combine", ["sum", "normalized", "lower_confidence"])
def test_raw_values_are_logged_whatever_is_trained_on(recipe: Path, combine: str) -> None:
    recipe.write_text(recipe.read_text() + SECOND)
    result = ddrl("train", recipe, f"scoring.combine={combine}", "scoring.kappa=0.5")
    assert result.code == 0, result.stderr
    for line in metrics_of(recipe.parent / "run"):
        raw = line["reward/ink"] + 0.5 * line["reward/Slow"]
        assert line["reward"] == pytest.approx(raw, rel=1e-5)
        assert line["reward_std"] > 0


AUDITED = ["evaluation.panel_samples=20", "evaluation.steps=2", "run.checkpoint_every=0"]


def test_a_reward_that_fails_in_an_audit_costs_neither_row_nor_audit(recipe: Path) -> None:
    """Calls: the base's audit, four iterations and two audits; it fails in the last one."""
    straight = recipe.parent / "straight"
    options = [*AUDITED, REWARDS + "RaisesOnce", "reward.0.options.at=7"]
    there = [f"reward.0.options.marker={recipe}", f"run.folder={straight}"]  # never raises
    assert ddrl("train", recipe, *options, *there).code == 0
    options.append(f"reward.0.options.marker={recipe.parent / 'marker'}")
    run = recipe.parent / "run"
    result = ddrl("train", recipe, *options)
    result.failed(4, "reward 'RaisesOnce' failed on 20 samples")
    assert "the 4 steps before it are saved" in result.stderr
    assert rows_of(run) == rows_of(straight)[:-1]
    again = ddrl("train", recipe, *options)
    assert again.code == 0, again.stderr
    assert rows_of(run) == rows_of(straight)
    assert "audit/hacked" in rows_of(run)[-1]
    assert ddrl("train", recipe, *options).stdout.startswith("Already finished.")
    assert rows_of(run) == rows_of(straight)
