"""What a reward costs beside the rollout: the digits job with a reward as slow as its rollout.

A reward that waits, as one on another machine does, for as long per sample as the rollout took
per sample just before. Rollout and reward are timed one after another and beside each other, in
turn in one process, so that a noisy machine hits both. The clock starts with the rollout and
stops when the last reward is there. Prints a table and writes benchmarks/results/overlap.json.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.record import ROOT, write_result

from ddrl.jobs.train.trainer import build_job
from ddrl.recipe import load_recipe
from ddrl.records import Prompts
from ddrl.rewards.scoring.attempt import WeightedReward
from ddrl.rewards.scoring.scorer import Scorer
from ddrl.training.logs.clock import Clock

ROUNDS = 9
MICRO_BATCHES = (40, 20, 10)  # of 160 samples


class Waits:
    """Brightness, after a time per sample; notes how long all calls took."""

    def __init__(self) -> None:
        self.seconds_per_sample, self.busy = 0.0, 0.0

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:  # noqa: ARG002
        """Shape (B, 3, H, W) -> (B,)."""
        start = time.perf_counter()
        value = media.flatten(1).mean(1)
        rest = self.seconds_per_sample * len(media) - (time.perf_counter() - start)
        time.sleep(max(rest, 0.0))
        self.busy += time.perf_counter() - start
        return value


def measure(micro_batch: int) -> dict[str, float]:
    """Median seconds of both, one after another and beside each other, and of the slower one."""
    overrides = ["evaluation.every=0", f"run.micro_batch={micro_batch}"]
    job = build_job(load_recipe(ROOT / "recipes/digits.toml", overrides))
    trainer, reward = job.trainer, Waits()
    trainer.collector.inspector.replayed.add(trainer.sampler)  # which is no part of this
    scorer = Scorer([WeightedReward("waits", reward)])
    beside = dataclasses.replace(trainer.collector, scorer=scorer)
    after = dataclasses.replace(beside, overlap=False)
    rows: list[tuple[float, float, float, float]] = []
    for number in range(ROUNDS + 2):
        hand = trainer.dealer.deal(number)
        reward.busy = 0.0
        first, second = Clock(), Clock()
        one = after.collect(hand, step=number, clock=first)
        in_turn = sum(first.seconds.values())
        reward.seconds_per_sample = first.seconds["rollout"] / len(one.trajectory)
        reward.busy = 0.0
        two = beside.collect(hand, step=number, clock=second)
        assert torch.equal(one.scores.combined, two.scores.combined)
        both = sum(second.seconds.values())
        rows.append((in_turn, both, second.seconds["rollout"], reward.busy))
    rows = rows[2:]
    ratios = [both / max(rollout, busy) for _, both, rollout, busy in rows]
    in_turn, both, rollout, busy = (statistics.median(column) for column in zip(*rows, strict=True))
    return {
        "micro_batches": -(-160 // micro_batch),
        "rollout_s": round(rollout, 4),
        "reward_s": round(busy, 4),
        "one_after_another_s": round(in_turn, 4),
        "overlapped_s": round(both, 4),
        "overlapped_over_slower": round(statistics.median(ratios), 3),
    }


def main() -> None:
    """Measure some sizes of micro-batches."""
    torch.set_num_threads(1)
    results = [measure(size) for size in MICRO_BATCHES]
    for row in results:
        print(
            f"{row['micro_batches']:3.0f} micro-batches: rollout {row['rollout_s']:.3f} s   reward "
            f"{row['reward_s']:.3f} s   one after another {row['one_after_another_s']:.3f} s   "
            f"overlapped {row['overlapped_s']:.3f} s = {row['overlapped_over_slower']:.3f} x slower"
        )
    values = {"rounds": ROUNDS, "results": results}
    write_result("overlap", values, script=__file__, files=["recipes/digits.toml"])


if __name__ == "__main__":
    main()
