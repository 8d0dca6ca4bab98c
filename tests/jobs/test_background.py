"""What a run hears of the process that audits it, with files and processes made by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ddrl.errors import DDRLError, RewardError
from ddrl.jobs.evaluate.background import BackgroundPanel, PanelFolder
from ddrl.recipe import parse_recipe
from ddrl.runs.folder import RunFolder
from ddrl.training.logs.shown import Shown
from ddrl.training.safety.auditing import Audit

WAITS = "import sys; sys.stdin.readline(); sys.stdin.readline()"
ENDS = "import sys; sys.exit(7)"


@pytest.fixture
def panel(tmp_path: Path) -> Iterator[BackgroundPanel]:
    text = f'[[reward]]\nname = "ink"\n[evaluation]\nevery = 2\n[run]\nfolder = "{tmp_path}"\n'
    made = BackgroundPanel(parse_recipe(text))
    made._folder.path.mkdir()
    yield made
    made.close()


def beside(panel: BackgroundPanel, program: str) -> subprocess.Popen[str]:
    """Have another program stand in the auditing process's place."""
    panel._process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, text=True
    )
    return panel._process


def answer(panel: BackgroundPanel, step: int, **metrics: float) -> None:
    folder = panel._folder
    folder.write(folder.result(step), {"metrics": metrics, "sentence": "fine"})


def test_each_audit_is_taken_once_under_its_own_step(panel: BackgroundPanel) -> None:
    beside(panel, WAITS)
    assert panel.collect(wait=True) is None, "none was begun"
    for step in (2, 4):
        panel.begin(step)
        assert panel.collect(wait=False) is None
        answer(panel, step, heldout_loss=step / 10)
        assert panel.collect(wait=True) == Audit(step, {"heldout_loss": step / 10}, "fine")
        assert panel.collect(wait=True) is None
        assert not panel._folder.result(step).exists()


def test_samples_come_along(panel: BackgroundPanel) -> None:
    beside(panel, WAITS)
    panel.begin(2)
    shown = Shown(2, "audit", ("one",), np.full((1, 4, 4, 3), 9, dtype=np.uint8))
    folder = panel._folder
    folder.write(folder.result(2), {"metrics": {}, "sentence": "", "shown": shown.pack()})
    audit = panel.collect(wait=True)
    assert audit is not None
    assert audit.shown is not None
    assert audit.shown.prompts == ("one",)
    assert audit.shown.pictures.tolist() == shown.pictures.tolist()


def test_waiting_is_for_the_answer(panel: BackgroundPanel) -> None:
    """The process writes it after a while."""
    path = panel._folder.result(2)
    program = (
        "import pathlib, sys, time; sys.stdin.readline(); time.sleep(0.3); "
        f"path = pathlib.Path({str(path)!r}); other = path.with_suffix('.x'); "
        'other.write_text(\'{"metrics": {}, "sentence": ""}\'); other.rename(path); '
        "sys.stdin.readline()"
    )
    beside(panel, program)
    panel.begin(2)
    assert panel.collect(wait=True) == Audit(2, {})


def test_one_audit_at_a_time(panel: BackgroundPanel) -> None:
    beside(panel, WAITS)
    panel.begin(2)
    with pytest.raises(AssertionError, match="one audit at a time"):
        panel.begin(4)


@pytest.mark.parametrize("wait", [False, True])
def test_a_process_that_ended_is_told(wait: bool, panel: BackgroundPanel) -> None:
    process = beside(panel, ENDS)
    process.wait()
    panel.begin(2)
    with pytest.raises(DDRLError, match="The audit of step 2 ended with exit code 7") as caught:
        panel.collect(wait=wait)
    assert str(panel._folder.log) in caught.value.hint


def test_what_it_found_before_it_ended_is_taken(panel: BackgroundPanel) -> None:
    process = beside(panel, ENDS)
    panel.begin(2)
    answer(panel, 2)
    process.wait()
    assert panel.collect(wait=False) == Audit(2, {}, "fine")


def test_an_error_of_ours_comes_as_its_own_kind(panel: BackgroundPanel) -> None:
    beside(panel, ENDS).wait()
    panel.begin(2)
    told = {"kind": "RewardError", "message": "it is down", "hint": "wait"}
    panel._folder.write(panel._folder.failure, told)
    with pytest.raises(RewardError, match="it is down") as caught:
        panel.collect(wait=True)
    assert caught.value.hint == "wait"


def test_nothing_outlives_the_run(panel: BackgroundPanel) -> None:
    process = beside(panel, "import signal, time; time.sleep(30)")
    panel.close()
    assert process.returncode is not None


def test_answers_carry_the_token_of_who_asked(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    mine, other = PanelFolder(run, "1-1"), PanelFolder(run, "2-2")
    mine.path.mkdir()
    for folder in (mine, other):
        folder.write(folder.result(2), {})
        folder.write(folder.failure, {})
        folder.recipe.write_text("")
        folder.result(2).with_suffix(".writing").write_text("")
    assert len(list(mine.path.iterdir())) == 8
    mine.log.write_text("kept")
    mine.clear()
    assert list(mine.path.iterdir()) == [mine.log]
