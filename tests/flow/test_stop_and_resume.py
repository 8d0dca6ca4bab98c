"""A run that was stopped, by a signal or by `kill -9`, ends bitwise as the straight run does."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.cli.command import Result, ddrl, metrics_of, rows_of, write_recipe
from tests.cli.forked import fork

STEPS = "run.steps=5"


def gated(gate: Path, *, at: int) -> list[str]:
    """Overrides: brightness as the reward, and a wait in iteration ``at`` for the test."""
    gate.mkdir(exist_ok=True)
    name = "reward.0.name=tests.cli.rewards:Gate"
    return [name, f"reward.0.options.folder={gate}", f"reward.0.options.at={at}", STEPS]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing stops."""
    folder = tmp_path_factory.mktemp("straight")
    recipe = write_recipe(folder, tmp_path_factory)
    assert ddrl("train", recipe, *gated(folder, at=99)).code == 0
    return folder / "run"


def assert_same(run: Path, straight: Path) -> None:
    """Weights, averages, optimizer, schedule and metrics are equal to the last bit."""
    assert rows_of(run) == rows_of(straight)
    here, there = (max(folder.glob("checkpoints/step-*")) for folder in (run, straight))
    assert here.name == there.name
    for name in ("model.safetensors", "ema.safetensors"):
        mine, theirs = load_file(here / name), load_file(there / name)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    one, other = (torch.load(f / "state.pt", weights_only=True) for f in (here, there))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def interrupt(
    recipe: Path, *numbers: signal.Signals, at: int, go_on: bool, more: Sequence[str] = ()
) -> Result:
    """Start a run, send signals while it is in iteration ``at``, and wait for its end."""
    gate = recipe.parent
    process = fork(gate / "out", ("train", recipe, *gated(gate, at=at), *more))
    try:
        process.wait_for(gate / "reached")
        for number in numbers:
            os.kill(process.pid, number)
            time.sleep(0.2)
        if go_on:
            (gate / "go").touch()
        return process.finish()
    finally:
        process.process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_stops(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    straight: Path,
    number: signal.Signals,
    code: int,
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    result = interrupt(recipe, number, at=3, go_on=True)
    assert result.code == code, result.stderr
    assert result.stdout == ""
    assert "Stopped after step 3 of 5; a checkpoint is saved." in result.stderr
    command = result.stderr.partition("Resume with: ")[2].split()
    assert command[:3] == ["ddrl", "train", str(recipe)]
    resumed = ddrl(*command[1:])
    assert resumed.code == 0
    assert "resuming after step 3" in resumed.stderr
    assert_same(tmp_path / "run", straight)


def test_a_second_signal_stops_at_once(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, straight: Path
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    result = interrupt(recipe, signal.SIGINT, signal.SIGTERM, at=3, go_on=False)
    assert result.code == 143, result.stderr
    assert "once more stops at once" in result.stderr
    assert "stopped at once by SIGTERM; the last good checkpoint, of step 2" in result.stderr
    assert ddrl("train", recipe, *gated(tmp_path, at=3)).code == 0
    assert_same(tmp_path / "run", straight)


def test_a_kill_between_checkpoints_is_made_up_for(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, straight: Path
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    result = interrupt(recipe, signal.SIGKILL, at=4, go_on=False)
    assert result.code == -signal.SIGKILL
    run = tmp_path / "run"
    assert [line["step"] for line in metrics_of(run)] == [1, 2, 3]
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')  # what a kill in the midst of a write leaves
    half = run / "checkpoints" / ".writing-00000004"
    shutil.copytree(run / "checkpoints" / "step-00000002", half)
    resumed = ddrl("train", recipe, *gated(tmp_path, at=4))
    assert resumed.code == 0, resumed.stderr
    assert "resuming after step 2" in resumed.stderr
    assert_same(run, straight)
    assert not half.exists()
