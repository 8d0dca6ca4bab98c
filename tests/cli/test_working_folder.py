"""The folder that a command is run in may be a stranger's: nothing of it runs unasked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.command import RECIPE, ROOT, Result, cache_beside

SCRIPT = ("-c", "from ddrl.cli import main; main()")
ALL = """
from ddrl.cli import main
import contextlib, io, json, sys
rows = []
for command in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(command)
        except SystemExit as stop:
            rows.append({"code": stop.code, "stdout": out.getvalue(), "stderr": err.getvalue()})
print(json.dumps(rows))
"""
STRANGERS = (
    *("dill", "yaml", "numpy", "PIL", "torch", "sitecustomize", "usercustomize", "typing", "json"),
    *("typer", "logging", "pydantic", "tomllib", "pyarrow", "httpx", "av", "wandb", "pkgutil"),
)
MODULE = "class Mine:\n    def score(self, media, prompts):\n        return media.mean((1, 2, 3))\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stranger's folder: its modules leave a mark when one of them is run."""
    path = tmp_path / "theirs"
    path.mkdir()
    for name in STRANGERS:
        (path / f"{name}.py").write_text(f"open({str(tmp_path / name)!r} + '.ran', 'w')\n")
    (path / "PKG-INFO").write_text("Name: theirs\nVersion: 1\n")
    dist = path / "theirs-1.dist-info"
    dist.mkdir()
    (dist / "METADATA").write_text("Name: theirs\nVersion: 1\n")
    (dist / "entry_points.txt").write_text("[ddrl.rewards]\ntheirs = yaml:Reward\n")
    return path


def run(folder: Path, *arguments: str | Path, how: tuple[str, ...] = ("-m", "ddrl")) -> Result:
    """Run a command as a user of the folder would."""
    options = ("-P",) if how == SCRIPT else ()  # a script has its own folder on the path
    done = subprocess.run(
        [sys.executable, *options, *how, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def run_all(folder: Path, *commands: tuple[str | Path, ...]) -> list[Result]:
    """Run commands as a user of the folder would, but one after another in one process.

    Loading torch is most of what a command takes here.
    """
    texts = json.dumps([[str(argument) for argument in command] for command in commands])
    done = run(folder, texts, how=("-P", "-c", ALL))
    assert done.code == 0, done.stderr
    return [Result(**row) for row in json.loads(done.stdout)]


def ran(folder: Path) -> list[str]:
    """What of the folder was run."""
    return sorted(path.stem for path in folder.parent.glob("*.ran"))


def recipe(folder: Path, name: str) -> Path:
    path = folder / "recipe.toml"
    text = RECIPE.format(folder=folder / "run", cache=cache_beside(folder.parents[1]))
    path.write_text(text.replace('name = "ink"', f'name = "{name}"'))
    return path


@pytest.mark.parametrize(
    "how", [("-m", "ddrl"), ("-Wignore", "-mddrl"), ("-m", "ddrl.cli.child"), SCRIPT]
)
def test_checking_data_runs_nothing(folder: Path, how: tuple[str, ...]) -> None:
    result = run(folder, "data", "check", ".", how=how)
    assert result.code == 3, result.stderr
    assert "is a caption without media" in result.stdout  # of its entry points
    assert ran(folder) == []


def test_the_panel_worker_runs_nothing(folder: Path) -> None:
    result = run(folder, folder, "0", how=("-m", "ddrl.jobs.evaluate.panel_worker"))
    assert "FileNotFoundError" in result.stderr  # there is no run
    assert ran(folder) == []


def test_commands_run_what_is_named_and_nothing_beside_it(folder: Path) -> None:
    """One command after another, in a process that was started in the folder."""
    (folder / "mine.py").write_text(MODULE)
    named, brought = recipe(folder, "mine:Mine"), folder / "brought"
    evaluate = ("evaluate", "run", "--out", "report")
    listed, audited, trained = run_all(
        folder,
        ("reward", "list", "--json"),
        ("reward", "audit", "ink", "--data", "digits", "--limit", "5"),
        ("train", named),
    )
    asked, sampled, allowed = run_all(  # by a process that has not loaded it
        folder,
        evaluate,
        ("sample", "run", "--prompt", "seven", "--num", "1"),
        (*evaluate, "--allow-code"),
    )
    assert "theirs" not in {row["name"] for row in json.loads(listed.stdout)["rewards"]}
    for result in (listed, audited, trained, sampled, allowed):
        assert result.code == 0, result.stderr
    asked.failed(4, "Module 'mine' lies in the working folder", "add --allow-code")
    shutil.copytree(folder / "run", brought)  # a run may bring its own: folders are packages
    saved = brought / "recipe.toml"
    saved.write_text(saved.read_text().replace('"mine:Mine"', '"theirs.numpy:Evil"'))
    (outside,) = run_all(folder.parent, ("evaluate", brought))
    outside.failed(4, "Module 'theirs' lies in the working folder")
    assert ran(folder) == []


def test_what_is_installed_comes_first(folder: Path) -> None:
    (folder / "mine.py").write_text(MODULE)
    site = folder.parent / "site"
    site.mkdir()
    (site / "mine.py").write_text("raise ValueError('the installed one')\n")
    code = f"import sys; sys.path.append({str(site)!r}); from ddrl.cli import main; main()"
    path = recipe(folder, "mine:Mine")
    result = run(folder, "train", path, "--dry-run", how=("-P", "-c", code))
    result.failed(4, "the installed one")


def test_a_package_is_found_whole_and_a_module_beside_another_is_not(folder: Path) -> None:
    package = folder / "my_rewards"
    package.mkdir()
    for place in (folder, package):
        (place / "parts.py").write_text("FACTOR = 2\n")
    (package / "mine.py").write_text(f"from my_rewards.parts import FACTOR\n{MODULE}")
    (folder / "mine.py").write_text(f"from parts import FACTOR\n{MODULE}")
    path = recipe(folder, "my_rewards.mine:Mine")
    whole, alone = run_all(
        folder,
        ("train", path, "--dry-run"),
        ("train", path, "--dry-run", "reward.0.name=mine:Mine"),
    )
    assert whole.code == 0, whole.stderr
    alone.failed(
        4, "Module 'mine' needs 'parts', which lies beside it", "put both into one package"
    )
    assert ran(folder) == []
