"""Runs that the tests of the command line start from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.cli.command import ddrl, write_recipe


@pytest.fixture
def recipe(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest recipe; its run goes beside it, to ``run``."""
    return write_recipe(tmp_path, tmp_path_factory)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of four steps, with checkpoints of steps 2 and 4; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    assert ddrl("train", write_recipe(folder, tmp_path_factory)).code == 0
    return folder / "run"


@pytest.fixture
def trained(recipe: Path, finished: Path) -> Path:
    """A copy of the finished run, in the place that ``recipe`` names."""
    shutil.copytree(finished, recipe.parent / "run")
    return recipe.parent / "run"
