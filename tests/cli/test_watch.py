"""``ddrl watch``: what the page says of a run in any state, from its folder alone."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.command import RECIPE, contents, ddrl, finish, spawn
from tests.evaluation.test_report import Page, plain

from ddrl.errors import CheckpointError, UsageError
from ddrl.evaluation.pages.watch_page import Series, State, Watched, render_watch, thinned
from ddrl.runs.lock import FolderLock, is_held
from ddrl.runs.watching import watch_run
from ddrl.training.logs.shown import SampleSheets, Shown

COMMAND = ["ddrl", "train", "my recipe.toml"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of four steps that has just been started."""
    folder = tmp_path / "my <run>"
    folder.mkdir()
    (folder / "recipe.toml").write_text(RECIPE.format(folder=folder, cache=tmp_path))
    (folder / "run.json").write_text(json.dumps({"command": COMMAND}))
    return folder


def add(run: Path, *rows: dict[str, Any]) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def iterate(run: Path, steps: int) -> None:
    add(run, *({"step": n, "reward": n / 10, "seconds": 2.0} for n in range(1, steps + 1)))


def save(run: Path, step: int) -> None:
    (run / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)


def state(run: Path, *, is_held: bool | None = False) -> tuple[str, str]:
    found = watch_run(run, is_held=is_held)
    return found.state, found.sentence


def test_a_run_that_trains_says_how_far_it_is(run: Path) -> None:
    assert state(run, is_held=True) == (
        "running",
        "No step is finished yet: model and data are made ready.",
    )
    iterate(run, 3)
    found = watch_run(run, is_held=True)
    assert (found.state, found.step, found.total, found.seconds_left) == ("running", 3, 4, 2.0)
    assert found.command == "ddrl train 'my recipe.toml'"


@pytest.mark.parametrize(
    ("steps", "saved", "expected"),
    [
        (4, 4, ("finished", "Next: ddrl evaluate ")),
        (2, 2, ("interrupted", "The same command resumes it.")),
        (3, 2, ("died", "It ended after step 3. The newest checkpoint is of step 2; the same")),
        (4, 2, ("died", "It ended after step 4. The newest checkpoint is of step 2; the same")),
        (1, 0, ("died", "It ended after step 1. There is no checkpoint yet; the same command")),
        (0, 0, ("died", "It ended before its first step was finished. There is no checkpoint")),
    ],
)
def test_a_run_that_nobody_trains(
    steps: int, saved: int, expected: tuple[str, str], run: Path
) -> None:
    iterate(run, steps)
    if saved:
        save(run, saved)
    found = state(run)
    assert (found[0], found[1][: len(expected[1])]) == expected


def test_a_stop_by_the_guard_has_its_reason_until_the_run_is_resumed(run: Path) -> None:
    iterate(run, 2)
    stop = {"reason": "The ratio exploded.", "hint": "lower the learning rate"}
    (run / "stopped.json").write_text(json.dumps(stop))
    assert state(run) == (
        "stopped",
        "The ratio exploded. Hint: lower the learning rate. There is no checkpoint yet.",
    )
    assert state(run, is_held=True)[0] == "running"


def test_where_a_lock_can_not_be_asked_fresh_metrics_tell(run: Path) -> None:
    assert state(run, is_held=None)[0] == "died"
    iterate(run, 1)
    assert state(run, is_held=None)[0] == "running"
    os.utime(run / "metrics.jsonl", (time.time() - 3600,) * 2)
    assert state(run, is_held=None)[0] == "died"


def test_looking_at_a_lock_keeps_nobody_out(tmp_path: Path) -> None:
    lock = tmp_path / "run" / "lock"
    assert is_held(lock) is False
    with FolderLock(lock):
        assert is_held(lock) is True
        with pytest.raises(UsageError, match="Another process"), FolderLock(lock):
            pass
    assert is_held(lock) is False
    looks = os.open(lock, os.O_RDONLY)
    import fcntl

    fcntl.flock(looks, fcntl.LOCK_SH)
    # Whoever looks lets go within a moment; the process that trains waits for that.
    child = os.fork()
    if child == 0:
        time.sleep(0.03)
        os._exit(0)  # the lock is of both, and goes with the last of them
    os.close(looks)
    with FolderLock(lock):
        pass
    os.waitpid(child, 0)


def test_files_that_are_being_written_or_foreign_are_passed_over(run: Path) -> None:
    iterate(run, 2)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "rew')
    (run / "run.json").write_text('{"comm')
    (run / "stopped.json").write_text("[]")
    (run / "shown").mkdir()
    (run / "shown" / "step-00000002.png").write_bytes(b"\x89PNG half")
    found = watch_run(run, is_held=True)
    assert (found.step, found.command, found.pictures) == (2, "", None)
    assert Page(render_watch(found)).open == []
    (run / "metrics.jsonl").unlink()
    os.mkfifo(run / "metrics.jsonl")
    with pytest.raises(CheckpointError, match="it is a pipe"):
        watch_run(run, is_held=True)


def test_the_page_shows_figures_curves_and_samples(run: Path) -> None:
    iterate(run, 3)
    for step, drift, hacked in ((1, 0.02, 0.0), (2, 0.25, 1.0)):
        found = {"audit/hacked": hacked, "audit/diversity": 0.9, "audit/vendi": 0.8}
        held = {"audit/held_out/judge_accuracy": 0.5, "audit/frechet": 3.0}
        add(run, {"step": step, "heldout_loss_change": drift, **found, **held})
    pictures = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    shown = Shown(2, "audit", ("one", "<two>"), pictures)
    SampleSheets(run / "shown").show(shown, sentence="", step=2)
    html = render_watch(watch_run(run, is_held=True), every=5)
    page = Page(html)
    text = plain(page.text)
    assert page.open == []
    assert "Step 3 of 4 about 2 s left" in text
    assert "Reward 0.30 0.10 at step 1" in text
    assert "Held-out loss +25.0 % at step 2, mark: +10 %" in text
    assert "Audit hacked audit of step 2; 1 of 2 said hacked" in text
    assert "Of the audit of step 2, from the same prompts and noise every time." in text
    assert html.count('<svg class="chart-') == 6
    assert sum(tag == "img" for tag, _ in page.tags) == 2
    assert html.count('<dd class="alarm">') == 2, "the loss is past its mark, and the audit says so"
    assert "<run>" not in html
    assert "<two>" not in html
    assert '<body data-every="5"' in html
    assert '<meta http-equiv="refresh" content="5">' in html
    ended = render_watch(watch_run(run, is_held=False))
    assert "refresh" not in ended
    assert '<body data-every="0"' in ended


@pytest.mark.parametrize(
    ("name", "change", "tone"),
    [
        ("running", 0.02, "base"),
        ("finished", 0.02, "base"),
        ("finished", 0.5, "hacked"),
        ("stopped", 0.02, "hacked"),
        ("died", 0.02, "hacked"),
    ],
)
def test_a_run_that_has_ended_is_not_called_clean(name: State, change: float, tone: str) -> None:
    run = Watched(
        name="run",
        method="",
        state=name,
        sentence="",
        step=4,
        total=4,
        seconds_left=None,
        drift_limit=0.1,
        series={"heldout_loss_change": [(0, 0.0), (4, change)]},
    )
    assert f'class="card now {tone}"' in render_watch(run)


def test_a_long_run_has_a_page_of_bounded_size() -> None:
    rng = np.random.default_rng(0)

    def page(num: int) -> str:
        names = ("reward", "heldout_loss_change", "audit/diversity", "audit/frechet")
        series: dict[str, Series] = {
            name: [(step, float(v)) for step, v in enumerate(rng.standard_normal(num), 1)]
            for name in names
        }
        return render_watch(
            Watched(
                name="long",
                method="",
                state="running",
                sentence="",
                step=num,
                total=num,
                seconds_left=None,
                drift_limit=0.1,
                series=series,
            )
        )

    assert len(page(50_000)) < 1.3 * len(page(300))


def test_a_curve_is_thinned_to_means_of_its_neighbours() -> None:
    assert thinned([(1, 2.0), (2, 4.0)]) == [(1, 2.0), (2, 4.0)]
    made = thinned([(step, float(step)) for step in range(1, 601)])
    assert len(made) == 300
    assert made[0] == (2, 1.5)
    assert made[-1] == (600, 599.5)


def test_the_command_writes_one_page_and_touches_nothing_else(finished: Path) -> None:
    before = contents(finished)
    page = finished / "watch.html"
    for more in ((), ("--once",)):
        result = ddrl("watch", finished, *more)
        assert result.code == 0, result.stderr
        assert result.stdout == f"{page}\n"
        after = contents(finished)
        after.pop("watch.html")
        assert after == before
    text = plain(Page(page.read_text()).text)
    assert "finished Step 4 of 4" in text
    page.unlink()


def test_a_page_elsewhere(finished: Path, tmp_path: Path) -> None:
    result = ddrl("watch", finished, "--once", "--out", tmp_path / "new")
    assert result.stdout == f"{tmp_path / 'new' / 'watch.html'}\n"
    (tmp_path / "file").write_text("")
    failed = ddrl("watch", finished, "--once", "--out", tmp_path / "file")
    failed.failed(3, "The page can't be written")


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    ddrl("watch", tmp_path / "nothing").failed(2, "is not the folder of a run: it is not there")
    ddrl("watch", tmp_path, "--once").failed(2, "has no readable recipe.toml")


def test_it_watches_until_ctrl_c(run: Path) -> None:
    """A lock that is held stands for training."""
    iterate(run, 1)
    with FolderLock(run / "lock"):
        process = spawn("watch", run, "--every", "1")
        assert process.stdout is not None
        assert process.stdout.readline() == f"{run / 'watch.html'}\n"
        process.send_signal(signal.SIGINT)
        result = finish(process)
    assert result.code == 0, result.stderr
    assert result.stderr.endswith("running, step 1 of 4\n")
