"""The run's folder: one process at a time, writable, with space left."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest
from tests.cli.command import ddrl, finish, kept, metrics_of, spawn


@pytest.mark.parametrize("below", ["", "inner"])
def test_a_file_where_the_folder_should_be(recipe: Path, below: str) -> None:
    file = recipe.parent / "file"
    file.write_text("mine")
    folder = file / below
    ddrl("train", recipe, f"run.folder={folder}").failed(2, f"{folder} can't be written", "PATH")
    assert file.read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_a_folder_that_nobody_can_write(recipe: Path) -> None:
    ddrl("train", recipe, "run.folder=/proc/run").failed(2, "/proc/run can't be written")


def test_a_cache_that_can_not_be_written(recipe: Path) -> None:
    result = ddrl("train", recipe, f"run.cache={recipe}")
    result.failed(3, f"The cache {recipe} can't be written", "set run.cache")


def test_the_disk_is_full(recipe: Path, trained: Path) -> None:
    """Files may not grow past 8 KiB: metrics still fit for a while, a checkpoint does not."""
    before = kept(trained)
    limit = 8 * 1024

    def fill_the_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    result = finish(spawn("train", recipe, "run.steps=6", before=fill_the_disk))
    result.failed(5, "step-00000006 can't be written", "free space", "earlier checkpoints are kept")
    after = kept(trained)
    del before["metrics.jsonl"], after["metrics.jsonl"]
    assert after == before
    assert [path.name for path in (trained / "checkpoints").glob(".writing*")] == []
    assert ddrl("train", recipe, "run.steps=6").code == 0
    assert [line["step"] for line in metrics_of(trained)] == [1, 2, 3, 4, 5, 6]


def test_the_disk_is_full_for_metrics(recipe: Path, trained: Path) -> None:
    before = kept(trained)
    limit = (trained / "metrics.jsonl").stat().st_size + 100

    def fill_the_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    result = finish(spawn("train", recipe, "run.steps=6", before=fill_the_disk))
    result.failed(5, "metrics.jsonl", "File too large", "free space")
    after = kept(trained)
    del before["metrics.jsonl"], after["metrics.jsonl"]
    assert after == before


def test_two_runs_in_one_folder(recipe: Path) -> None:
    gate = recipe.parent
    options = [f"reward.0.options.folder={gate}", "reward.0.options.at=2"]
    arguments = ["train", str(recipe), "reward.0.name=tests.cli.rewards:Gate", *options]
    first = spawn(*arguments)
    try:
        while not (gate / "reached").exists():
            assert first.poll() is None, first.communicate()
            time.sleep(0.02)
        second = ddrl(*arguments)
        (gate / "go").touch()
        assert finish(first).code == 0
    finally:
        first.kill()
    second.failed(2, f"Another process (pid {first.pid}) is training in", "another run.folder")
    assert len(metrics_of(gate / "run")) == 4
    assert "Already finished" in ddrl(*arguments).stdout
