"""Collects what an iteration learns from: samples of the policy, and their rewards.

With micro-batches the two overlap: while one is rolled out, those before it are scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.data.groups import Hand
from ddrl.errors import RewardError
from ddrl.models.decoding import decode_samples
from ddrl.records import Advantages, Anchor, Prompts, Scores, Trajectory
from ddrl.rewards.scoring.scorer import Scorer
from ddrl.training.logs.clock import Clock
from ddrl.training.logs.metrics import reward_metrics
from ddrl.training.logs.shown import SHOWN, Shown, as_shown, small_pictures
from ddrl.training.pool import Pool
from ddrl.training.rollout import Sampler, batches
from ddrl.training.safety.inspector import Inspector


@dataclass(frozen=True)
class Collected:
    """Samples of the policy, and their rewards.

    Attributes:
        trajectory: the samples.
        scores: their rewards.
        shown: small pictures of the first sample of the first groups.
    """

    trajectory: Trajectory
    scores: Scores
    shown: Shown

    @property
    def rewards(self) -> tuple[Tensor, Tensor, Tensor]:
        """Reward, group and whether the reward is valid, of each sample, shape (B,), on the CPU."""
        return self.scores.combined, self.trajectory.group.cpu(), self.scores.valid

    def metrics(self, advantages: Advantages, beta: float) -> dict[str, float]:
        """Return the metrics of samples and rewards.

        Args:
            advantages: advantages of the samples.
            beta: strength of the regularizer by its gradient.
        """
        group, latents = self.trajectory.group.cpu(), self.trajectory.final
        return reward_metrics(self.scores, advantages, group, latents, beta)


@dataclass
class Collector:
    """Samples the policy and has the samples scored.

    Attributes:
        samplers: the sampler of each size.
        pool: prompts and data.
        scorer: rewards.
        inspector: checks each rollout before it is learned from.
        group_size: members per prompt.
        overlap: whether to score micro-batches while the next ones are rolled out.
    """

    samplers: Sequence[Sampler]
    pool: Pool
    scorer: Scorer
    inspector: Inspector
    group_size: int
    overlap: bool = True

    def anchor(self, hand: Hand) -> Anchor:
        """Read the data of an iteration, on the model's device."""
        return self.pool.anchor(hand.anchor_row, device=self.samplers[hand.size].device)

    def collect(self, hand: Hand, *, step: int, clock: Clock) -> Collected:
        """Roll out and score G groups.

        Args:
            hand: their prompts and size.
            step: iterations finished.
            clock: takes the seconds of ``rollout``, until the last sample is there and inspected,
                and of ``reward``, from then until the last reward is there.

        Raises:
            RewardError: a reward failed where that is not allowed.
            GuardStop: the samples have exploded.
            ReplayMismatch: the update would see other log-probabilities.
            WeightsError: the decoder has made pixels that are not finite.
        """
        sampler = self.samplers[hand.size]
        prompts = self.pool.prompts.select(hand.prompt_id.tolist())
        group = torch.arange(len(prompts)).repeat_interleave(self.group_size)
        overlaps = self.overlap and 0 < sampler.micro_batch < len(group)
        pictures: list[Tensor] = []
        # Whatever stops the rollout, nothing waits for calls of rewards that are under way.
        asked = prompts.select(group.tolist())
        with self.scorer.begin(asked, group, part_size=overlaps * sampler.micro_batch) as scoring:

            def score_rows(trajectory: Trajectory, rows: slice) -> None:
                scoring.add(self._decoded(trajectory, rows, prompts, pictures))

            with clock("rollout"):
                condition = self.pool.condition[hand.prompt_id].to(sampler.device)
                trajectory = sampler.rollout(
                    condition, group, step=step, finished=score_rows if overlaps else None
                )
                self.inspector.check(trajectory, sampler, step=step)
            with clock("reward"):
                if not overlaps:
                    rows = batches(len(trajectory), sampler.micro_batch)
                    decoded = [self._decoded(trajectory, r, prompts, pictures) for r in rows]
                    scoring.add(torch.cat(decoded))
                try:
                    scores = scoring.result()
                except RewardError:
                    self.inspector.blame(trajectory, step=step)
                    raise
        few = torch.cat(pictures)
        shown = as_shown(step + 1, "rollout", prompts.text[: len(few)], few)
        return Collected(trajectory, scores, shown)

    def _decoded(
        self, trajectory: Trajectory, rows: slice, prompts: Prompts, pictures: list[Tensor]
    ) -> Tensor:
        """Decode some samples, and add small pictures of the few that are shown."""
        media, size = self._decode(trajectory, rows, prompts), self.group_size
        first = [row - rows.start for row in range(0, SHOWN * size, size)]
        if few := [row for row in first if 0 <= row < len(media)]:
            pictures.append(small_pictures(media[few]))
        return media

    @torch.no_grad()
    def _decode(self, trajectory: Trajectory, rows: slice, prompts: Prompts) -> Tensor:
        """Decode some samples to the CPU: pixels may take more memory than latents."""
        model = self.samplers[0].forward.model  # which sizes share
        condition = trajectory.condition_of(rows)
        return decode_samples(
            model,
            trajectory.final[rows].to(self.samplers[0].device).float(),
            condition,
            name=lambda row: (
                f"sample {rows.start + row + 1} of {len(trajectory)}, of the prompt "
                f"{prompts.text[int(trajectory.group[rows][row])]!r:.80}"
            ),
        )
