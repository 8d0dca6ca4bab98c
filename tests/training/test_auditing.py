"""Audits beside training: each is recorded under its step, and waited for before the next save."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.fakes import FakeReward, FakeSink, Toy
from torch import Tensor

from ddrl.errors import CheckpointError, GuardStop, RewardError, UsageError
from ddrl.records import Prompts
from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.loop import restore, train
from ddrl.training.manifest import read_manifest
from ddrl.training.safety.auditing import Audit, AuditRecord
from ddrl.training.safety.guard import Guard
from ddrl.training.trainer import Trainer


@dataclass
class Slow:
    """Audits a checkpoint that must be there, and is done after it was asked a few times."""

    folder: Path
    patience: int = 100
    scores: dict[int, float] = field(default_factory=dict)
    drift: float = 0.0
    hacked: tuple[int, ...] = ()
    fails_at: int = 0
    events: list[str] = field(default_factory=list)
    _step: int = 0
    _asked: int = 0

    def start(self) -> None:
        self.events.append("start")

    def begin(self, step: int) -> None:
        assert not self._step
        self.events.append(f"begin {step}")
        self._step, self._asked = step, 0

    def collect(self, *, wait: bool) -> Audit | None:
        self._asked += 1
        if not self._step or not (wait or self._asked > self.patience):
            return None
        step, self._step = self._step, 0
        assert (self.folder / f"step-{step:08d}").is_dir()
        if step == self.fails_at:
            raise RewardError("a reward of the audit has failed")
        metrics = {"heldout_loss_change": self.drift, "audit/hacked": float(step in self.hacked)}
        if step not in self.hacked:
            metrics["audit/score"] = self.scores.get(step, 0.0)
        return Audit(step, metrics, "hacked: look." if step in self.hacked else "clean.")

    def close(self) -> None:
        self.events.append("close")


def audited(folder: Path, auditor: Slow, *, guard: Guard | None = None) -> Trainer:
    trainer = Toy(guard=guard or Guard()).trainer()
    trainer.watch.auditor, trainer.watch.every = auditor, 2
    return trainer


def rows(sink: FakeSink) -> list[tuple[float, bool]]:
    """Every row's step, and whether it is an audit's."""
    return [(line["step"], "audit/hacked" in line) for line in sink.lines]


def test_a_late_audit_is_recorded_under_its_own_step(tmp_path: Path) -> None:
    auditor, sink = Slow(tmp_path, patience=1), FakeSink()
    train(audited(tmp_path, auditor), 5, sinks=[sink], checkpoints=CheckpointFolder(tmp_path))
    # Begun after step 2, it is asked for after step 3 in vain, and done at the save of step 4.
    assert rows(sink)[:5] == [(1, False), (2, False), (3, False), (4, False), (2, True)]
    assert (4, True) in rows(sink)
    assert auditor.events == ["start", "begin 2", "begin 4", "close"]


@pytest.mark.parametrize("checkpoint_every", [0, 1, 3])
@pytest.mark.parametrize("patience", [0, 1, 100])
def test_the_best_is_marked_whenever_its_audit_is_done(
    patience: int, checkpoint_every: int, tmp_path: Path
) -> None:
    auditor = Slow(tmp_path, patience=patience, scores={2: 0.5, 4: 2.0, 6: 1.0})
    folder = CheckpointFolder(tmp_path)
    train(audited(tmp_path, auditor), 7, checkpoints=folder, checkpoint_every=checkpoint_every)
    best = folder.best()
    assert best is not None
    assert (best.step, best.score) == (4, 2.0)


def test_the_end_waits_for_the_audit_under_way(tmp_path: Path) -> None:
    sink, folder = FakeSink(), CheckpointFolder(tmp_path)
    auditor = Slow(tmp_path, scores={4: 1.0})
    train(audited(tmp_path, auditor), 4, sinks=[sink], checkpoints=folder)
    assert rows(sink)[-1] == (4, True)
    best = folder.best()
    assert best is not None
    assert best.step == 4


def resumed(folder: Path, auditor: Slow, **settings: Guard) -> Trainer:
    newest = CheckpointFolder(folder).latest()
    assert newest is not None
    trainer = audited(folder, auditor, **settings)
    restore(trainer, newest)
    return trainer


def test_a_stop_leaves_the_audit_of_its_checkpoint_to_the_resume(tmp_path: Path) -> None:
    auditor, sink = Slow(tmp_path), FakeSink()
    trainer = audited(tmp_path, auditor)
    folder = CheckpointFolder(tmp_path)
    train(trainer, 9, sinks=[sink], checkpoints=folder, should_stop=lambda: trainer.step == 4)
    assert auditor.events == ["start", "begin 2", "close"]
    auditor.events.clear()
    train(resumed(tmp_path, auditor), 5, sinks=[sink], checkpoints=folder)
    assert auditor.events == ["start", "begin 4", "close"]
    assert sorted(rows(sink)) == sorted([*((n, False) for n in range(1, 6)), (2, True), (4, True)])


def test_the_audit_of_the_last_checkpoint_is_known_to_the_next_process(tmp_path: Path) -> None:
    folder, auditor = CheckpointFolder(tmp_path), Slow(tmp_path)
    train(audited(tmp_path, auditor), 4, checkpoints=folder)
    auditor.events.clear()
    train(resumed(tmp_path, auditor), 5, checkpoints=folder)
    assert auditor.events == ["start", "close"]


@pytest.mark.parametrize("goes_on_to", [4, 6])
def test_an_audit_that_failed_is_made_by_the_resume(goes_on_to: int, tmp_path: Path) -> None:
    folder, sink = CheckpointFolder(tmp_path), FakeSink()
    with pytest.raises(RewardError, match="has failed"):
        train(
            audited(tmp_path, Slow(tmp_path, fails_at=4, patience=1)),
            6,
            sinks=[sink],
            checkpoints=folder,
            checkpoint_every=1,
        )
    # The steps since are not saved: from their checkpoint nobody could make that audit again.
    newest = folder.latest()
    assert newest is not None
    assert newest.step == 4
    assert AuditRecord.of(newest).step == 2
    auditor = Slow(tmp_path)
    train(resumed(tmp_path, auditor), goes_on_to, checkpoints=folder)
    assert "begin 4" in auditor.events
    newest = folder.latest()
    assert newest is not None
    assert AuditRecord.of(newest).step == goes_on_to


class FailsAt(FakeReward):
    """A training reward that fails in one of its calls."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        score = super().score(media, prompts)
        if self.calls == self.at:
            raise RewardError("the reward's server is down")
        return score


def test_a_reward_that_fails_waits_for_the_audit_under_way(tmp_path: Path) -> None:
    """Iterations 1 to 3 are saved, and with them the audit of step 2 that had only begun."""
    sink, folder = FakeSink(), CheckpointFolder(tmp_path)
    trainer = Toy(reward=FailsAt(4)).trainer()
    trainer.watch.auditor, trainer.watch.every = Slow(tmp_path), 2
    with pytest.raises(RewardError, match="server is down"):
        train(trainer, 9, sinks=[sink], checkpoints=folder)
    newest = folder.latest()
    assert newest is not None
    assert newest.step == 3
    assert AuditRecord.of(newest).step == 2
    assert (2, True) in rows(sink)


def test_two_audits_in_a_row_that_say_hacked_stop_the_run(tmp_path: Path) -> None:
    auditor, folder = Slow(tmp_path, hacked=(2, 6, 8)), CheckpointFolder(tmp_path)
    sink, guard = FakeSink(), Guard(stop_hacked=2)
    with pytest.raises(GuardStop, match="have parted at 2 audits in a row: hacked: look"):
        train(audited(tmp_path, auditor, guard=guard), 20, sinks=[sink], checkpoints=folder)
    assert auditor.events[-1] == "close"
    newest = folder.latest()
    assert newest is not None
    assert newest.step == 8
    assert rows(sink)[-1] == (8, True)  # what stopped it is recorded
    # Whoever goes on from there is stopped by the same audit, and not by one that comes later.
    again = resumed(tmp_path, auditor, guard=guard)
    with pytest.raises(GuardStop, match="have parted at 2 audits in a row"):
        train(again, 20, checkpoints=folder)
    assert again.step <= 10


# --- what is known of the audits ----------------------------------------------------------------


def found(step: int, *, score: float | None = None, hacked: bool = False) -> Audit:
    metrics = {"audit/hacked": float(hacked)}
    return Audit(step, metrics if score is None else {**metrics, "audit/score": score})


def test_hacked_audits_are_counted_in_a_row() -> None:
    record, counts = AuditRecord(), []
    for step, hacked in enumerate((True, True, False, True, True, True), start=1):
        record = record.after(found(step, hacked=hacked))
        counts.append(record.hacked)
    assert counts == [1, 2, 0, 1, 2, 3]
    assert record.after(Audit(7, {"heldout_loss_change": 0.0})).hacked == 3  # which says nothing


def test_the_best_score_is_the_highest_so_far() -> None:
    record, best = AuditRecord(), []
    scores = (None, -2.0, -math.inf, math.nan, -2.0, 0.5, 0.4, None, 0.6)
    for step, score in enumerate(scores, start=1):
        record = record.after(found(step, score=score))
        best.append((record.is_best, record.best))
    assert best == [
        *((False, None), (True, -2.0), (False, -2.0), (False, -2.0), (False, -2.0)),
        *((True, 0.5), (False, 0.5), (False, 0.5), (True, 0.6)),
    ]


@pytest.mark.parametrize("score", [-math.inf, math.inf, math.nan])
def test_a_score_that_is_no_number_is_never_the_best(score: float) -> None:
    """Neither as the first one nor after others."""
    for start in (AuditRecord(), AuditRecord(best=-1.0)):
        found = start.after(Audit(2, {"audit/hacked": 0.0, "audit/score": score}))
        assert (found.score, found.is_best, found.best) == (None, False, start.best)


def test_a_record_is_what_its_checkpoint_notes(tmp_path: Path) -> None:
    record = AuditRecord().after(found(3, score=0.1 + 0.2)).after(found(6, hacked=True))
    folder = CheckpointFolder(tmp_path)
    checkpoint = folder.save(step=7, tensors={}, state={}, notes=record.notes())
    assert AuditRecord.of(read_manifest(checkpoint.folder)) == record
    # One without any, of an older version, has no audit to make up for.
    older = folder.save(step=8, tensors={}, state={})
    assert not AuditRecord.of(older).is_due(8, 2)
    for notes in ({"audits": {"step": 1, "other": 2}}, {"audits": [1]}, {"audits": 3}):
        with pytest.raises(CheckpointError, match="no record of audits"):
            AuditRecord.of(folder.save(step=9, tensors={}, state={}, notes=notes))


@pytest.mark.parametrize(
    ("step", "every", "known", "is_due"),
    [
        (0, 2, 0, False),
        (2, 2, 0, True),
        (2, 2, 2, False),
        (3, 2, 0, False),
        (4, 2, 2, True),
        (4, 0, 0, False),
    ],
)
def test_an_audit_is_due_once(step: int, every: int, known: int, is_due: bool) -> None:
    assert AuditRecord(step=known).is_due(step, every) == is_due


def test_the_guard_looks_at_audits_too(tmp_path: Path) -> None:
    auditor = Slow(tmp_path, drift=0.3, patience=0)
    trainer = audited(tmp_path, auditor, guard=Guard(max_drift=0.25))
    with pytest.raises(GuardStop, match=r"heldout_loss_change is 0.3 at step 2"):
        train(trainer, 9, checkpoints=CheckpointFolder(tmp_path))


def test_audits_need_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this run writes none"):
        train(audited(tmp_path, Slow(tmp_path)), 2)
