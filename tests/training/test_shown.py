"""A few small pictures of a run: what is taken, and how it gets to a file and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.fakes import FakeSink, Toy

from ddrl.errors import CheckpointError
from ddrl.objective.loss import Objective
from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.logs.shown import SampleSheets, Shown, as_shown, newest_sheet, small_pictures
from ddrl.training.loop import train
from ddrl.training.safety.auditing import Audit


def shown(step: int, num: int = 3) -> Shown:
    pictures = np.random.default_rng(step).integers(0, 256, (num, 5, 4, 3), dtype=np.uint8)
    return Shown(step, "audit", tuple(f"prompt \u202e{i}" for i in range(num)), pictures)


def test_pictures_are_small_and_of_a_clip_the_middle_frame() -> None:
    clip = torch.zeros(2, 3, 3, 512, 256)
    clip[:, 1] = 0.5
    made = small_pictures(clip)
    assert made.shape == (2, 3, 128, 64)
    assert made.dtype == torch.uint8
    assert bool((made == 128).all())
    still = small_pictures(torch.tensor([[[[2.0, -1.0]], [[torch.nan, 1.0]], [[0.0, 0.2]]]]))
    assert still.tolist() == [[[[255, 0]], [[0, 255]], [[0, 51]]]]


def test_a_file_holds_pictures_and_what_they_are() -> None:
    one = shown(7)
    again = Shown.unpack(one.pack())
    assert (again.step, again.source, again.prompts) == (7, "audit", one.prompts)
    assert np.array_equal(again.pictures, one.pictures)
    for foreign in (b"", b"no picture", one.png()[:60]):
        with pytest.raises(ValueError, match="holds no samples"):
            Shown.of_png(foreign)


def test_the_newest_sheets_are_kept_and_a_resume_drops_what_it_makes_again(tmp_path: Path) -> None:
    sheets = SampleSheets(tmp_path / "shown")
    for step in range(10, 70, 10):
        sheets.show(shown(step), sentence="", step=step)
    sheets.show(None, sentence="hacked", step=70)
    (tmp_path / "shown" / "step-00000060-mine.png").write_text("kept")
    names = sorted(path.name for path in (tmp_path / "shown").iterdir())
    assert names == [
        *(f"step-000000{step}.png" for step in (30, 40, 50)),
        *("step-00000060-mine.png", "step-00000060.png"),
    ]
    SampleSheets(tmp_path / "shown", resume_at=45)
    newest = newest_sheet(tmp_path / "shown")
    assert newest is not None
    assert newest.step == 40
    (tmp_path / "shown" / "step-00000040.png").write_bytes(b"cut off")
    before = newest_sheet(tmp_path / "shown")
    assert before is not None
    assert before.step == 30
    assert newest_sheet(tmp_path / "nothing") is None


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "shown").write_text("")
    with pytest.raises(CheckpointError, match=r"Samples can't be written to .*shown"):
        SampleSheets(tmp_path / "shown").show(shown(1), sentence="", step=1)


@pytest.mark.parametrize("micro_batch", [0, 3])
def test_an_iteration_keeps_the_first_sample_of_each_group(micro_batch: int) -> None:
    trainer = Toy(num_prompts=2, group_size=4, micro_batch=micro_batch).trainer()
    trainer.iteration()
    assert trainer.shown is not None
    assert (trainer.shown.step, trainer.shown.source) == (1, "rollout")
    assert trainer.shown.pictures.shape[0] == len(trainer.shown.prompts) == 2
    whole = Toy(num_prompts=2, group_size=4).trainer()
    whole.iteration()
    assert whole.shown is not None
    assert np.array_equal(trainer.shown.pictures, whole.shown.pictures)


def test_sinks_are_shown_samples_and_verdicts_at_audits() -> None:
    trainer, sink = Toy().trainer(), FakeSink()
    mine = as_shown(2, "audit", ["red"], torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    trainer.watch.monitor = lambda step: Audit(
        step, {}, f"verdict {step}", mine if step == 2 else None
    )
    trainer.watch.every = 2
    train(trainer, 5, sinks=[sink])
    assert [(step, sentence) for step, _, sentence in sink.shown] == [
        (2, "verdict 2"),
        (4, "verdict 4"),
    ]
    assert sink.shown[0][1] is mine
    other = sink.shown[1][1]
    assert other is not None
    assert (other.step, other.source) == (4, "rollout")


def test_without_audits_samples_are_shown_with_checkpoints(tmp_path: Path) -> None:
    sink = FakeSink()
    folder = CheckpointFolder(tmp_path)
    train(Toy().trainer(), 4, sinks=[sink], checkpoints=folder, checkpoint_every=2)
    assert [step for step, _, _ in sink.shown] == [2, 4]
    nothing = FakeSink()
    supervised = Toy(objective=Objective(policy="none")).trainer()
    train(supervised, 2, sinks=[nothing], checkpoints=CheckpointFolder(tmp_path / "b"))
    assert [(step, pictures) for step, pictures, _ in nothing.shown] == [(2, None)]
