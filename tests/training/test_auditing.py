"""Audits beside training: each is recorded under its step, and waited for before the next save."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.fakes import FakeSink, Toy

from ddrl.errors import GuardStop, UsageError
from ddrl.training.auditing import Audit
from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.guard import Guard
from ddrl.training.loop import train
from ddrl.training.trainer import Trainer


@dataclass
class Slow:
    """Audits a checkpoint that must be there, and is done after it was asked a few times."""

    folder: Path
    every: int = 2
    patience: int = 100
    scores: dict[int, float] = field(default_factory=dict)
    best: float = 0.0
    drift: float = 0.0
    stops_at: int = 0
    events: list[str] = field(default_factory=list)
    _step: int = 0
    _asked: int = 0

    def resume(self, step: int) -> None:
        self.events.append(f"resume {step}")

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
        if step == self.stops_at:
            raise GuardStop("Reward and audit have parted.")
        score = self.scores.get(step, 0.0)
        metrics = {"heldout_loss_change": self.drift, "audit/score": score}
        metrics["audit/best"] = float(score > self.best)
        self.best = max(self.best, score)
        return Audit(step, metrics)

    def close(self) -> None:
        self.events.append("close")


def audited(folder: Path, auditor: Slow, *, guard: Guard | None = None) -> Trainer:
    trainer = Toy(guard=guard or Guard()).trainer()
    trainer.auditor = auditor
    return trainer


def rows(sink: FakeSink) -> list[tuple[float, bool]]:
    """Every row's step, and whether it is an audit's."""
    return [(line["step"], "audit/score" in line) for line in sink.lines]


def test_a_late_audit_is_recorded_under_its_own_step(tmp_path: Path) -> None:
    auditor, sink = Slow(tmp_path, patience=1), FakeSink()
    train(audited(tmp_path, auditor), 5, sinks=[sink], checkpoints=CheckpointFolder(tmp_path))
    # Begun after step 2, it is asked for after step 3 in vain, and done at the save of step 4.
    assert rows(sink)[:5] == [(1, False), (2, False), (3, False), (4, False), (2, True)]
    assert (4, True) in rows(sink)
    assert auditor.events == ["resume 0", "begin 2", "begin 4", "close"]


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


def test_a_stop_leaves_the_audit_of_its_checkpoint_to_the_resume(tmp_path: Path) -> None:
    auditor = Slow(tmp_path)
    trainer = audited(tmp_path, auditor)
    folder = CheckpointFolder(tmp_path)
    train(trainer, 9, checkpoints=folder, should_stop=lambda: trainer.step == 4)
    assert auditor.events == ["resume 0", "begin 2", "close"]
    auditor.events.clear()
    train(trainer, 5, checkpoints=folder)
    assert auditor.events == ["resume 4", "close"]


def test_an_audit_stops_the_run_and_is_closed(tmp_path: Path) -> None:
    auditor, folder = Slow(tmp_path, stops_at=2), CheckpointFolder(tmp_path)
    with pytest.raises(GuardStop, match="have parted"):
        train(audited(tmp_path, auditor), 9, checkpoints=folder)
    assert auditor.events[-1] == "close"
    newest = folder.latest()
    assert newest is not None
    assert newest.step == 2


def test_the_guard_looks_at_audits_too(tmp_path: Path) -> None:
    auditor = Slow(tmp_path, drift=0.3, patience=0)
    trainer = audited(tmp_path, auditor, guard=Guard(max_drift=0.25))
    with pytest.raises(GuardStop, match=r"heldout_loss_change is 0.3 at step 2"):
        train(trainer, 9, checkpoints=CheckpointFolder(tmp_path))


def test_audits_need_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this run writes none"):
        train(audited(tmp_path, Slow(tmp_path)), 2)
