"""What an iteration learns from: samples of the policy, and their rewards.

With micro-batches the two overlap: while one is rolled out, those before it are scored.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.data.groups import Hand
from ddrl.diffusion.transition import Reduction, Transitions
from ddrl.errors import RewardError
from ddrl.records import Prompts, Scores, Trajectory
from ddrl.rewards.scoring.scorer import Scorer
from ddrl.training.forward import Forward
from ddrl.training.logs.shown import SHOWN, small_pictures
from ddrl.training.pool import Pool
from ddrl.training.rollout import batches, decode_samples, rollout


@dataclass(frozen=True)
class RolloutSettings:
    """How an iteration samples and learns.

    Attributes:
        transitions: the sampler.
        trained: trained steps.
        latent_shape: of one sample.
        group_size: members per prompt.
        num_updates: optimizer steps per rollout.
        micro_batch: samples per pass, 0 for all.
        steps_per_pass: see :class:`~ddrl.training.update.Gradient`.
        storage_dtype: of stored latents.
        replay_tolerance: how far the first iteration's ratio may be from 1.
        overlap: whether micro-batches are scored while the next ones are rolled out.
    """

    transitions: Transitions
    trained: tuple[int, ...]
    latent_shape: tuple[int, ...]
    group_size: int
    num_updates: int = 1
    micro_batch: int = 0
    steps_per_pass: int = 1
    storage_dtype: torch.dtype = torch.float32
    replay_tolerance: float = 1e-3
    overlap: bool = True


@dataclass(frozen=True)
class Collected:
    """Samples of the policy, and their rewards.

    Attributes:
        trajectory: the samples.
        scores: their rewards.
        rollout_seconds: until the last sample was there, and had passed the check.
        reward_seconds: from then until the last reward was.
        pictures: small ones, uint8 (P, 3, h, w), of the first sample of the first P groups.
    """

    trajectory: Trajectory
    scores: Scores
    rollout_seconds: float
    reward_seconds: float
    pictures: Tensor


@dataclass(frozen=True)
class Collector:
    """Samples the policy and has the samples scored.

    Attributes:
        forward: the policy.
        pool: prompts.
        scorer: rewards.
        settings: how to sample.
        seed: of the run.
        reduction: of the log-probability over latent dimensions.
        reference: also take the KL to this policy at every step, eq. (T3).
        device: where the model is.
    """

    forward: Forward
    pool: Pool
    scorer: Scorer
    settings: RolloutSettings
    seed: int
    reduction: Reduction = "sum"
    reference: Forward | None = None
    device: torch.device | str = "cpu"

    def collect(
        self,
        hand: Hand,
        *,
        step: int,
        check: Callable[[Trajectory], None],
        blame: Callable[[Trajectory], None],
    ) -> Collected:
        """Roll out and score G groups.

        Args:
            hand: their prompts.
            step: the iteration.
            check: sees the rollout before its rewards are asked for; may raise.
            blame: sees the rollout when a reward has failed; raises if that was the samples' fault.

        Raises:
            RewardError: a reward failed where that is not allowed.
            WeightsError: the decoder has made pixels that are no numbers.
        """
        start, settings = time.perf_counter(), self.settings
        prompts = self.pool.prompts.select(hand.prompt_id.tolist())
        group = torch.arange(len(prompts)).repeat_interleave(settings.group_size)
        overlaps = settings.overlap and 0 < settings.micro_batch < len(group)
        pictures: list[Tensor] = []
        # Whatever stops the rollout, calls of rewards that are on their way are not waited for.
        asked = prompts.select(group.tolist())
        with self.scorer.begin(asked, group, part_size=overlaps * settings.micro_batch) as scoring:

            def score_rows(trajectory: Trajectory, rows: slice) -> None:
                scoring.add(self._decoded(trajectory, rows, prompts, pictures))

            trajectory = rollout(
                self.forward,
                self.pool.condition[hand.prompt_id].to(self.device),
                group,
                transitions=settings.transitions,
                latent_shape=settings.latent_shape,
                seed=self.seed,
                step=step,
                micro_batch=settings.micro_batch,
                storage_dtype=settings.storage_dtype,
                reduction=self.reduction,
                reference=self.reference,
                device=self.device,
                finished=score_rows if overlaps else None,
            )
            check(trajectory)
            rolled = time.perf_counter()
            if not overlaps:
                rows = batches(len(trajectory), settings.micro_batch)
                decoded = [self._decoded(trajectory, r, prompts, pictures) for r in rows]
                scoring.add(torch.cat(decoded))
            try:
                scores = scoring.result()
            except RewardError:
                blame(trajectory)
                raise
        reward_seconds = time.perf_counter() - rolled
        return Collected(trajectory, scores, rolled - start, reward_seconds, torch.cat(pictures))

    def _decoded(
        self, trajectory: Trajectory, rows: slice, prompts: Prompts, pictures: list[Tensor]
    ) -> Tensor:
        """Pixels of some samples; the few that are shown are added to ``pictures``, small."""
        media, size = self._decode(trajectory, rows, prompts), self.settings.group_size
        first = [row - rows.start for row in range(0, SHOWN * size, size)]
        if few := [row for row in first if 0 <= row < len(media)]:
            pictures.append(small_pictures(media[few]))
        return media

    @torch.no_grad()
    def _decode(self, trajectory: Trajectory, rows: slice, prompts: Prompts) -> Tensor:
        """Pixels of some samples; on the CPU, since an iteration's may be more than its latents."""
        condition = trajectory.condition[trajectory.group[rows]]
        return decode_samples(
            self.forward.model,
            trajectory.final[rows].float(),
            condition,
            name=lambda row: (
                f"sample {rows.start + row + 1} of {len(trajectory)}, of the prompt "
                f"{prompts.text[int(trajectory.group[rows][row])]!r:.80}"
            ),
        )
