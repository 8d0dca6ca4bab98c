"""The command itself: help, version, wrong arguments, bugs, and closed pipes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.command import ROOT, ddrl, finish, spawn

COMMANDS = ["train", "sample", "evaluate", "export", "doctor"]


def test_no_command_shows_the_help() -> None:
    result = ddrl()
    assert result.code == 0
    assert result.stderr == ""
    assert result.stdout == ddrl("--help").stdout
    assert all(f" {command} " in result.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_help(command: str) -> None:
    result = ddrl(command, "-h")
    assert result.code == 0
    assert f"Usage: ddrl {command} " in result.stdout


def test_version() -> None:
    result = ddrl("--version")
    assert result.code == 0
    assert result.stdout.startswith("ddrl")


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["trian"], "No such command 'trian'"),
        (["train"], "Missing argument 'RECIPE'"),
        (["train", "--dry"], "No such option: --dry"),
        (["sample", "run", "--num", "0"], "--num"),
        (["sample", "run", "--base", "--raw"], "--base"),
        (["evaluate"], "Missing argument 'RUN'"),
    ],
)
def test_wrong_arguments(arguments: list[str], phrase: str) -> None:
    ddrl(*arguments).failed(2, phrase)


def test_a_bug_says_sorry_and_shows_where(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("ddrl.recipe.load_recipe", broken)
    result = ddrl("train", recipe)
    assert result.code == 1
    assert "Traceback" in result.stderr
    assert "error: sorry, ddrl met something it does not expect: ZeroDivisionError" in result.stderr
    assert "hint: please report it" in result.stderr
    assert result.stdout == ""


def test_nobody_reads_the_output() -> None:
    process = spawn("--version")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    result = finish(process)
    assert result.code == 141
    assert result.stderr == ""


def test_the_script_finds_a_reward_beside_it(recipe: Path) -> None:
    (recipe.parent / "my_reward.py").write_text(
        "class Mine:\n    def score(self, media, prompts):\n        return media.mean((1, 2, 3))\n"
    )
    reward = "reward.0.name=my_reward:Mine"
    code = "from ddrl.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "train", recipe, "--dry-run", reward],
        cwd=recipe.parent,
        env={"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_dry_run_prints_the_plan_and_writes_nothing(recipe: Path) -> None:
    result = ddrl("train", recipe, "--dry-run")
    assert result.code == 0
    assert re.search(r"rollout +2 prompts x 4 = 8 samples", result.stdout)
    assert "one effective beta, 1" in result.stdout
    assert [path.name for path in recipe.parent.iterdir()] == ["recipe.toml"]
