"""What a recipe can get wrong, told through the command line; the run in its folder is kept."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tests.cli.command import ddrl, kept

REWARDS = "reward.0.name=tests.cli.rewards:"


@pytest.mark.parametrize(
    ("override", "code", "phrases"),
    [
        ("objective.bta=1", 2, ["Unknown key objective.bta", "did you mean", "beta"]),
        ("objectiv.beta=1", 2, ["objectiv.beta", "did you mean objective.beta"]),
        ("run.steps=many", 2, ["run.steps=many", "must be a whole number"]),
        ("rollout.group_size=1", 2, ["rollout.group_size is 1", "always 0", "2 or more"]),
        ("rollout.kernel=flow_sd", 2, ["rollout.kernel", "flow_sde"]),
        ("beta", 2, ["section.key=value"]),
        ("model.family=flux", 2, ["flux", "tiny"]),
        ("data.source=imagenet", 2, ["imagenet", "digits"]),
        ("reward.0.name=inc", 4, ["no reward named 'inc'", "did you mean 'ink'"]),
        ("reward.0.name=no.such.module:Reward", 4, ["can't be loaded", "no.such", "installed"]),
        ("reward.0.options.scal=2", 4, ["no option 'scal'", "did you mean 'scale'"]),
    ],
)
def test_it_is_told_and_nothing_is_lost(
    recipe: Path, trained: Path, override: str, code: int, phrases: list[str]
) -> None:
    before = kept(trained)
    assert ddrl("train", recipe, override).code > 1  # at the latest as another recipe
    assert kept(trained) == before
    elsewhere = f"run.folder={recipe.parent / 'elsewhere'}"
    ddrl("train", recipe, override, elsewhere).failed(code, *phrases)
    assert not (recipe.parent / "elsewhere" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("override", "code"),
    [("model.family=flux", 2), ("data.source=imagenet", 2), ("reward.0.name=inc", 4)],
)
def test_a_dry_run_finds_it_too(recipe: Path, override: str, code: int) -> None:
    ddrl("train", recipe, override, "--dry-run").failed(code)
    assert not (recipe.parent / "run").exists()


def test_a_fault_in_the_file_is_named_with_its_line(recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace("width = 16", "widht = 16"))
    ddrl("train", recipe).failed(2, f"{recipe}:2", "model.widht", "did you mean model.width?")


def test_a_recipe_that_is_not_there(recipe: Path) -> None:
    wrong = recipe.with_name("recip.toml")
    ddrl("train", wrong).failed(2, f"There is no recipe {wrong}", str(recipe))


def test_a_recipe_that_is_no_toml(recipe: Path) -> None:
    recipe.write_text("[model\n")
    ddrl("train", recipe).failed(2, f"{recipe}:1: Not valid TOML")


@pytest.mark.parametrize(
    ("name", "phrases"),
    [
        ("Raises", ["'Raises' failed on 8 samples", "ValueError: the reward's server is down"]),
        ("NotANumber", ["'NotANumber' returned nan for 8 of 8 samples", "sample 0"]),
        ("WrongShape", ["returned (8, 1) for 8 samples, not shape (8,)"]),
    ],
)
def test_a_reward_that_fails(recipe: Path, name: str, phrases: list[str]) -> None:
    ddrl("train", recipe, REWARDS + name).failed(4, *phrases)
    assert (recipe.parent / "run" / "metrics.jsonl").read_text() == ""


def test_steps_before_a_failing_reward_are_saved(recipe: Path) -> None:
    straight = ddrl("train", recipe, REWARDS + "RaisesOnce", *_options(recipe, at=99))
    assert straight.code == 0
    arguments: list[str | Path] = ["train", recipe, REWARDS + "RaisesOnce", *_options(recipe, at=4)]
    folder = f"run.folder={recipe.parent / 'again'}"
    failed = ddrl(*arguments, folder)
    failed.failed(4, "the 3 steps before it are saved")
    resumed = ddrl(*arguments, folder)
    assert "resuming after step 3" in resumed.stderr
    assert resumed.code == 0


def _options(recipe: Path, *, at: int) -> list[str]:
    marker = recipe.parent / "marker"
    return [f"reward.0.options.at={at}", f"reward.0.options.marker={marker}"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(recipe: Path) -> None:
    ddrl("train", recipe, "run.device=cuda").failed(2, "no CUDA device")


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed")
def test_a_sink_that_is_not_installed(recipe: Path) -> None:
    ddrl("train", recipe, "run.wandb_project=mine").failed(2, "needs wandb", "ddrl[wandb]")


def test_the_guard_stops_and_says_why(recipe: Path, trained: Path) -> None:
    before = kept(trained)
    result = ddrl("train", recipe, "run.steps=6", "guard.max_grad_norm=1e-6")
    result.failed(6, "grad_norm is", "above the guard's limit", "of step 4, is kept")
    assert "step-00000004" in result.stderr
    assert kept(trained) == before
    assert '"reason": "grad_norm is' in (trained / "stopped.json").read_text()
    assert ddrl("train", recipe, "run.steps=6").code == 0
    assert not (trained / "stopped.json").exists()


@pytest.mark.parametrize(
    "text",
    [
        f"a = {'[' * 5000}{']' * 5000}",
        f"a = {'{a=' * 3000}1{'}' * 3000}",
        f"a{'.a' * 5000} = 1",
        f"[run]\nsteps = {'9' * 5000}",
        f"[run]\nsteps = {'9' * 400}",
    ],
    ids=["lists", "tables", "dots", "digits", "large"],
)
@pytest.mark.parametrize("command", [("train",), ("compare",), ("reward", "serve")])
def test_a_document_that_python_can_not_follow(
    tmp_path: Path, command: tuple[str, ...], text: str
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    ddrl(*command, path).failed(2, "recipe.toml")


def test_an_override_that_python_can_not_follow(recipe: Path) -> None:
    for value in ("[" * 3000, "9" * 5000):
        ddrl("train", recipe, f"run.steps={value}", "--dry-run").failed(2, "run.steps")
