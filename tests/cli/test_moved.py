"""A finished run on another machine, and paths as they are typed in a shell."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tests.cli.command import contents, ddrl

from ddrl.recipe import load_recipe

SMALL = ("evaluation.samples_per_prompt=4", "evaluation.steps=1")
SAMPLE = ("--prompt", "one", "--num", "1")


@pytest.fixture
def made_on_cuda(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was made on a GPU, where there is none now."""
    recipe = trained / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('device = "auto"', 'device = "cuda"'))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return trained


@pytest.mark.parametrize(
    "command",
    [
        ("sample", "{run}", *SAMPLE),
        ("evaluate", "{run}", *SMALL),
        ("evaluate", "{run}", "{other}", *SMALL),
        ("export", "{run}"),
    ],
)
def test_a_run_is_read_on_the_device_that_is_there(
    command: tuple[str, ...], made_on_cuda: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    if "{other}" in command:
        shutil.copytree(made_on_cuda, other)
    result = ddrl(*(one.format(run=made_on_cuda, other=other) for one in command))
    assert result.code == 0, result.stderr
    assert result.stderr.count("made on CUDA, which is not here: it is read on the CPU") == 1
    chosen = ddrl("sample", made_on_cuda, "run.device=cpu", *SAMPLE)
    assert "made on CUDA" not in chosen.stderr


def test_a_plan_for_another_machine(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    planned = ddrl("train", recipe, "run.device=cuda", "--dry-run")
    assert planned.code == 0, planned.stderr
    assert "not here yet: run.device is cuda" in planned.stderr
    ddrl("train", recipe, "run.device=cuda").failed(2, "no CUDA device", "run.device=auto")


def test_what_is_not_part_of_the_model_may_be_set(finished: Path, tmp_path: Path) -> None:
    before = contents(finished)
    out = ("--out", tmp_path / "out")
    sampled = ddrl("sample", finished, f"run.cache={tmp_path}/cache", "--base", *SAMPLE, *out)
    assert sampled.code == 0, sampled.stderr
    assert (tmp_path / "cache").is_dir()
    result = ddrl("evaluate", finished, *SMALL, *out)
    assert result.code == 0, result.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert "evaluation.samples_per_prompt=4" in page  # the command that makes it again
    assert contents(finished) == before


@pytest.mark.parametrize("command", ["sample", "evaluate", "export"])
@pytest.mark.parametrize(
    ("override", "code", "phrases"),
    [
        ("model.width=32", 2, ["model.width is part of what was trained", "run.device"]),
        ("rollout.guidance=2", 2, ["rollout.guidance is part of what was trained"]),
        ("reward.0.weight=2", 2, ["reward.0.weight is part of what was trained"]),
        ("run.folder=x", 2, ["run.folder is part of what was trained"]),
        ("run.devise=cpu", 2, ["Unknown key run.devise", "did you mean"]),
        ("run.device=tpu", 2, ["run.device"]),
        ("=3", 2, ["not of the form section.key=value"]),
        ("model.path=/x", 2, ["the embedded model, which has no path"]),
        ("model.path=$NONE_OF_THIS/x", 2, ["embedded model"]),
        ("run.cache=$NONE_OF_THIS/x", 2, ["run.cache", "no variable NONE_OF_THIS", "export"]),
    ],
)
def test_what_may_not_be_set_is_named(
    command: str, override: str, code: int, phrases: list[str], finished: Path
) -> None:
    ddrl(command, finished, override).failed(code, *phrases)


def test_overrides_alone_are_no_run(finished: Path) -> None:
    ddrl("evaluate", "run.device=cpu").failed(2, "no run", "name the folder")
    ddrl("evaluate", finished.parent / "a=b").failed(2, "is not the folder of a run")
    ddrl("sample", finished, "--model", "/x").failed(2, "embedded model")


def test_a_run_means_the_same_in_any_working_folder(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    paths = ["run.folder=run", "run.cache=./cache"]
    assert ddrl("train", recipe, "run.steps=1", *paths).code == 0
    run = tmp_path / "here" / "run"
    assert f'cache = "{tmp_path}/here/cache"' in (run / "recipe.toml").read_text()
    monkeypatch.chdir(tmp_path / "there")
    assert ddrl("sample", run, "--base", *SAMPLE).code == 0
    assert ddrl("train", run / "recipe.toml", "run.steps=2").code == 0
    assert list(Path.cwd().iterdir()) == []


def test_paths_are_typed_as_in_a_shell(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", "somewhere")
    typed = ["run.folder=~/$PLACE/run", "run.cache=${PLACE}/cache", "model.start=~/x"]
    typed += ["reward.0.options.file=~/a", "reward.0.options.text=costs $5 or ~"]
    loaded = load_recipe(recipe, typed)
    assert loaded.run.folder == f"{tmp_path}/somewhere/run"
    assert loaded.run.cache == "somewhere/cache"
    assert loaded.model.start == f"{tmp_path}/x"
    assert loaded.reward[0].options == {"file": f"{tmp_path}/a", "text": "costs $5 or ~"}
    (tmp_path / "$PLACE").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_recipe(recipe, ["run.cache=$PLACE"]).run.cache == "$PLACE"  # which is there
    for value, phrase in (
        ("~nobody-of-this-name/x", "no user of that name"),
        ("$NOT_A_VARIABLE/x", "the environment has no variable NOT_A_VARIABLE"),
    ):
        for command in (["train"], ["data", "encode"]):
            ddrl(*command, recipe, f"run.cache={value}").failed(2, "run.cache is", phrase)
