"""The run's folder: one process at a time, writable, with space left."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.command import ddrl, kept, metrics_of
from tests.cli.forked import fork


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file may grow past so many bytes; Python ignores the signal that this sends."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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
    with full_disk(8 * 1024):
        result = ddrl("train", recipe, "run.steps=6")
    result.failed(5, "step-00000006 can't be written", "free space", "earlier checkpoints are kept")
    after = kept(trained)
    del before["metrics.jsonl"], after["metrics.jsonl"]
    assert after == before
    assert [path.name for path in (trained / "checkpoints").glob(".writing*")] == []
    assert ddrl("train", recipe, "run.steps=6").code == 0
    assert [line["step"] for line in metrics_of(trained)] == [1, 2, 3, 4, 5, 6]


def test_the_disk_is_full_for_metrics(recipe: Path, trained: Path) -> None:
    before = kept(trained)
    with full_disk((trained / "metrics.jsonl").stat().st_size + 100):
        result = ddrl("train", recipe, "run.steps=6")
    result.failed(5, "metrics.jsonl", "File too large", "free space")
    after = kept(trained)
    del before["metrics.jsonl"], after["metrics.jsonl"]
    assert after == before


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("train", "recipe.toml", "run.folder=new"), 2),
        (("train", "recipe.toml", "run.folder=new", "run.cache=cache", "model.depth=2"), 2),
        (("sample", "run", "--prompt", "seven", "--num", "1", "--out", "new"), 2),
        (("export", "run", "--out", "new"), 2),
        (("reward", "audit", "ink", "--data", "digits", "--limit", "8", "--out", "new"), 3),
        (("recipe", "copy", "digits", "--to", "new"), 2),
        (("data", "synthesize", "recipe.toml", "data.anchor=synthetic", "run.cache=cache"), 3),
        (("doctor",), 1),  # which says which check has failed
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_a_full_disk_has_its_exit_code(
    recipe: Path,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    code: int,
) -> None:
    """Whatever a command writes first; what was there before stays as it is."""
    monkeypatch.chdir(recipe.parent)
    before = kept(trained)
    with full_disk(0):
        result = ddrl(*command)
    assert result.code == code, result.stderr
    assert "can't be written" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert kept(trained) == before


def test_two_runs_in_one_folder(recipe: Path) -> None:
    gate = recipe.parent
    options = [f"reward.0.options.folder={gate}", "reward.0.options.at=2"]
    arguments = ["train", str(recipe), "reward.0.name=tests.cli.rewards:Gate", *options]
    first = fork(gate / "out", arguments)
    try:
        first.wait_for(gate / "reached")
        second = ddrl(*arguments)
        (gate / "go").touch()
        assert first.finish().code == 0
    finally:
        first.process.kill()
    second.failed(2, f"Another process (pid {first.pid}) is training in", "another run.folder")
    assert len(metrics_of(gate / "run")) == 4
    assert "Already finished" in ddrl(*arguments).stdout
