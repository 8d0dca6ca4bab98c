"""Runs that are killed outright end with the weights, rows and audits of one that nothing stopped.

Fast: a kill at each kind of point of a step. `make test-slow`: one at every single write of a run,
and a hundred at random moments, with audits inline and beside training.
"""

from __future__ import annotations

import json
import logging
import random
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.command import ddrl, rows_of, write_recipe
from tests.flow.killed import KILLED, train_for, train_until

from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.safety.auditing import AuditRecord

AUDITED = ["evaluation.panel_samples=20", "evaluation.every=2", "evaluation.steps=2"]
BESIDE = [*AUDITED, "evaluation.panel=background"]
SHORT = "run.steps=4"
OPTIONS = {
    "inline": [*AUDITED, SHORT, "run.checkpoint_every=1"],
    "background": [*BESIDE, SHORT, "run.checkpoint_every=3"],
}
logger = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that nothing stops, by where they are audited."""
    runs = {}
    for panel, options in OPTIONS.items():
        folder = tmp_path_factory.mktemp(panel)
        recipe = write_recipe(folder, tmp_path_factory)
        assert ddrl("train", recipe, *options).code == 0
        runs[panel] = folder / "run"
    return runs


def in_order(run: Path) -> list[dict[str, Any]]:
    """The rows, as if no audit had been late; every one, so that none may be there twice."""
    return sorted(rows_of(run), key=lambda row: (row["step"], "reward" not in row))


def assert_same(run: Path, straight: Path) -> None:
    """Rows, audits, weights, averages, moments, and which checkpoint is the best are the same."""
    assert in_order(run) == in_order(straight)
    here, there = (CheckpointFolder(folder / "checkpoints") for folder in (run, straight))
    one, other = here.latest(), there.latest()
    assert one is not None
    assert other is not None
    assert one.step == other.step
    for name in ("model", "ema"):
        mine, theirs = one.tensors(name), other.tensors(name)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    torch.testing.assert_close(one.state(), other.state(), rtol=0, atol=0)
    assert asdict(AuditRecord.of(one)) == asdict(AuditRecord.of(other))
    assert here.best() == there.best()
    assert not [path.name for path in here.folder.iterdir() if not path.name.startswith("step-")]


def finish(recipe: Path, panel: str) -> None:
    result = ddrl("train", recipe, *OPTIONS[panel])
    assert result.code == 0, result.stderr


@pytest.mark.parametrize(
    ("panel", "name", "count"),
    [
        ("inline", "before row", 2),
        ("inline", "in row", 3),
        ("inline", "after row", 4),  # and before its audit
        ("inline", "in audit's row", 2),
        ("inline", "before replacing", 4),  # of a manifest: its files are there
        ("inline", "after way", 2),  # whole, and not in its place
        ("inline", "before pruning", 2),  # saved: there is no mark that could be late
        ("inline", "in removal", 1),
        ("background", "before audit beside", 1),
        ("background", "after audit's row", 1),
        ("background", "after notes", 2),
    ],
)
def test_a_kill_at_a_point(
    panel: str,
    name: str,
    count: int,
    straight: dict[str, Path],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    recipe = write_recipe(tmp_path, tmp_path_factory)
    arguments = [str(recipe), *OPTIONS[panel]]
    code = train_until(arguments, tmp_path / "log", kill_at=(name, count))
    assert code == KILLED, (tmp_path / "log").read_text()
    finish(recipe, panel)
    assert_same(tmp_path / "run", straight[panel])


@pytest.mark.slow
@pytest.mark.parametrize("panel", ["inline", "background"])
def test_a_kill_at_every_write(
    panel: str,
    straight: dict[str, Path],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A run that is killed at its first write, resumed and killed at its second, and so on."""
    folder = tmp_path / "all"
    folder.mkdir()
    log, recipe = tmp_path / "events", write_recipe(folder, tmp_path_factory)
    arguments = [str(recipe), *OPTIONS[panel]]
    assert train_until(arguments, tmp_path / "log", log=log) == 0
    assert_same(folder / "run", straight[panel])
    events = [json.loads(line) for line in log.read_text().splitlines()]
    killed = 0
    for place, (name, count) in enumerate(events):
        folder = tmp_path / str(place)
        folder.mkdir()
        recipe = write_recipe(folder, tmp_path_factory)
        arguments = [str(recipe), *OPTIONS[panel]]
        assert train_until(arguments, tmp_path / "log", kill_at=(name, count)) == KILLED
        killed += 1
        assert train_until(arguments, tmp_path / "log") == 0
        assert_same(folder / "run", straight[panel])
    logger.info("%s: %d kills at writes", panel, killed)


@pytest.mark.slow
@pytest.mark.parametrize(("panel", "kills"), [("inline", 60), ("background", 40)])
def test_kills_at_random_moments(
    panel: str,
    kills: int,
    straight: dict[str, Path],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Each run is killed until it has finished all the same; then the next one, until enough."""
    timed = tmp_path / "timed"
    timed.mkdir()
    arguments = [str(write_recipe(timed, tmp_path_factory)), *OPTIONS[panel]]
    start = time.monotonic()
    assert train_for(arguments, tmp_path / "log", seconds=600) == 0
    whole = time.monotonic() - start
    draw = random.Random(panel)
    killed = runs = 0
    while killed < kills:
        folder = tmp_path / str(runs)
        folder.mkdir()
        recipe = write_recipe(folder, tmp_path_factory)
        arguments, code, here = [str(recipe), *OPTIONS[panel]], KILLED, 0
        while code == KILLED and here < 5:
            moment = whole * draw.random() * draw.random()  # a resume has less before it
            code = train_for(arguments, tmp_path / "log", seconds=moment)
            assert code in (0, KILLED), (tmp_path / "log").read_text()
            here += code == KILLED
        killed, runs = killed + here, runs + 1
        if code == KILLED:
            assert train_until(arguments, tmp_path / "log") == 0
        assert_same(folder / "run", straight[panel])
    logger.info("%s: %d kills, in %d runs of %.1f s", panel, killed, runs, whole)
