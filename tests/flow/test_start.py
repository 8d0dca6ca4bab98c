"""One run after another: ``model.start`` takes the averaged weights of the first as the base."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.cli.command import ddrl, write_recipe

from ddrl.runs.loaded import load_run


def test_a_run_starts_where_another_ended(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    assert ddrl("train", recipe, "objective.policy=none").code == 0
    first = load_file(max((tmp_path / "run/checkpoints").glob("step-*")) / "ema.safetensors")
    more = (f"model.start={tmp_path / 'run'}", f"run.folder={tmp_path / 'second'}")
    result = ddrl("train", recipe, *more)
    assert result.code == 0, result.stderr
    assert f"starting from {tmp_path / 'run'}, step 4" in result.stderr
    second = load_run(tmp_path / "second")
    network = dict(second.model.transformer.named_parameters())
    assert any(not torch.equal(network[name], value) for name, value in first.items())
    with second.as_base():  # what the audit measures it beside
        assert all(torch.equal(network[name], value) for name, value in first.items())


def test_a_folder_that_is_no_run_is_named(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    result = ddrl("train", recipe, f"model.start={tmp_path / 'nowhere'}")
    result.failed(3, "model.start is", "which has no checkpoint", "ddrl train")


def test_a_run_of_another_network_is_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    assert ddrl("train", recipe, "run.steps=1").code == 0
    more = (
        f"model.start={tmp_path / 'run'}",
        "model.width=24",
        f"run.folder={tmp_path / 'second'}",
    )
    ddrl("train", recipe, *more).failed(5, "The checkpoint is of another network")
