"""examples/my_reward is installed as a user would, and ddrl finds, audits and trains on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.command import metrics_of, shared_cache

from ddrl.rewards.catalog import catalog

ROOT = Path(__file__).parents[2]
SMALL = (
    *("model.width=16", "model.depth=1", "model.pretrain.steps=20", "rollout.prompts_per_step=2"),
    *("rollout.group_size=4", "evaluation.every=0", "run.steps=2", "run.tensorboard=false"),
)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run Python with the example installed in a folder of its own, beside this environment."""
    base = tmp_path_factory.mktemp("plugin")
    source, site = base / "my_reward", base / "site"
    shutil.copytree(
        ROOT / "examples" / "my_reward", source, ignore=shutil.ignore_patterns("__pycache__")
    )

    def python(*arguments: str | Path, plugin: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        environment["PYTHONPATH"] = str(site) if plugin else ""
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(
            command, cwd=base, env=environment, capture_output=True, text=True, check=False
        )

    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target")
    installed = python("-m", "pip", "install", *options, site, source, plugin=False)
    assert installed.returncode == 0, installed.stderr
    return python


def test_its_own_tests_pass(run: Run) -> None:
    done = run("-m", "pytest", "-q", "-W", "error", "my_reward")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout


def test_it_is_listed_where_it_is_installed(run: Run) -> None:
    done = run("-m", "ddrl", "reward", "list", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)["rewards"]}
    row = rows["sharpness"]
    assert (row["path"], row["state"]) == ("my_reward:Sharpness", "ready")
    assert row["card"]["rewards"] == "sharp pictures"
    assert "sharpness" not in {entry.name for entry in catalog()}


def test_it_is_audited(run: Run) -> None:
    audit = ("-m", "ddrl", "reward", "audit", "sharpness", "--data", "digits", "--limit", "30")
    done = run(*audit, "--option", "scale=2.0", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["reward"], report["options"]) == ("sharpness", {"scale": 2.0})


def test_it_is_trained_on(
    run: Run, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    train = ("-m", "ddrl", "train", ROOT / "recipes" / "digits.toml", "reward.0.name=sharpness")
    folders = (f"run.folder={tmp_path / 'run'}", f"run.cache={shared_cache(tmp_path_factory)}")
    done = run(*train, *SMALL, *folders)
    assert done.returncode == 0, done.stderr
    lines = metrics_of(tmp_path / "run")
    assert len(lines) == 2
    assert all(0 < line["reward/sharpness"] < 1 for line in lines)
