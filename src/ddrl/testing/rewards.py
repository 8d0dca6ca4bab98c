"""Conformance of a reward: call :func:`check_reward` from a test, with a few real samples."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.errors import DDRLError
from ddrl.records import Prompts
from ddrl.rewards.base import GroupReward, Reward
from ddrl.rewards.card import RewardCard
from ddrl.rewards.level import is_group_level
from ddrl.rewards.scoring.attempt import Piece, score_once
from ddrl.testing.require import require


def check_reward(
    reward: Reward | GroupReward,
    media: Tensor,
    prompts: Prompts,
    *,
    group: Tensor | None = None,
    tolerance: float = 1e-5,
) -> None:
    """Run every check on samples that the reward is meant for.

    Args:
        reward: with its options.
        media: pixels in [0, 1], images (B, 3, H, W) or clips (B, T, 3, H, W); B is at least 3, and
            at least 6 for a reward of whole groups.
        prompts: length B; at least one sample scores otherwise than the others.
        group: the group of every sample, shape (B,); a reward of whole groups needs two or more of
            them, with three samples or more each. Default: the first half and the second.
        tolerance: by how much a score may depend on the batch that it is computed in, relatively
            to the largest score.

    Raises:
        ConformanceError: the first check that fails; it says what is wrong with the reward.
    """
    size = len(media)
    if group is None:
        group = (torch.arange(size) >= (size + 1) // 2).long()
    samples = _Samples(reward, media, prompts, group)
    before = media.clone()
    value = score_once(reward, Piece(media, prompts, group, range(size)))
    require(torch.equal(media, before), "score changes the media that it is given.")
    if not isinstance(value, Tensor):
        require(False, f"score returns a {type(value).__name__}, not a Tensor.")
        return
    require(value.shape == (size,), f"score returns {tuple(value.shape)}, not (B,).")
    require(value.is_floating_point(), f"score returns {value.dtype}, not floats.")
    value = value.detach().float().cpu()
    require(bool(value.isfinite().all()), "score returns values that are not finite.")
    require(not torch.equal(value, value[:1].expand_as(value)), "every sample scores the same.")
    require(torch.equal(value, samples.score()), "score is not deterministic.")

    limit = tolerance * max(1.0, float(value.abs().max()))
    order = [*range(1, size), 0]
    off = float((samples.score(order) - value[order]).abs().max())
    require(off <= limit, f"samples in another order score otherwise, by {off:.2g}.")
    if is_group_level(reward):
        _check_groups(samples, value, limit)
    else:
        alone = [samples.score([i]) for i in range(size)]
        off = float((torch.cat(alone) - value).abs().max())
        require(off <= limit, f"a sample alone scores otherwise than in a batch, by {off:.2g}.")
    _check_failures(samples)
    _check_card(samples)


@dataclass(frozen=True)
class _Samples:
    """What a reward is checked on."""

    reward: Reward | GroupReward
    media: Tensor
    prompts: Prompts
    group: Tensor

    def score(
        self,
        rows: list[int] | None = None,
        *,
        media: Tensor | None = None,
        prompts: Prompts | None = None,
        group: Tensor | None = None,
    ) -> Tensor:
        """The scores of some samples (default: all), with other media, prompts or groups."""
        rows = list(range(len(self.media))) if rows is None else rows
        piece = Piece(
            (self.media if media is None else media)[rows],
            (prompts or self.prompts).select(rows),
            (self.group if group is None else group)[rows],
            rows,
        )
        value = score_once(self.reward, piece)
        require(isinstance(value, Tensor), f"score returns a {type(value).__name__}, not a Tensor.")
        assert isinstance(value, Tensor)
        return value.detach().float().cpu()


def _check_groups(samples: _Samples, value: Tensor, limit: float) -> None:
    """A reward of whole groups sees each group as if it were alone, and by its number."""
    group = samples.group
    members = Counter(group.tolist())
    numbers = list(members)
    require(
        len(members) > 1 and min(members.values()) > 2,
        "the check needs two groups or more, of three samples or more each.",
    )
    for number in numbers:
        rows = (group == number).nonzero().flatten().tolist()
        off = float((samples.score(rows) - value[rows]).abs().max())
        require(off <= limit, f"a group alone scores otherwise than beside others, by {off:.2g}.")
    off = float((samples.score(group=7 - 3 * group) - value).abs().max())
    require(off <= limit, f"groups with other numbers score otherwise, by {off:.2g}.")
    same = samples.prompts.select([0] * len(group))
    together = samples.score(prompts=same)
    for number in numbers:
        rows = (group == number).nonzero().flatten().tolist()
        off = float((samples.score(rows, prompts=same) - together[rows]).abs().max())
        require(off <= limit, f"groups of the same prompt are taken for one: off by {off:.2g}.")


def _check_failures(samples: _Samples) -> None:
    """A sample of which nothing is known has no number."""
    broken = samples.media.clone()
    broken[0] = torch.nan
    try:
        value = samples.score(media=broken)
    except DDRLError:
        return
    require(not bool(value[0].isfinite()), "pixels that are NaN get a score that is finite.")
    others = torch.arange(len(value)) > 0
    if is_group_level(samples.reward):  # the rest of its group may have none either
        others = samples.group != samples.group[0]
    require(bool(value[others].isfinite().all()), "a sample of NaN takes the others' scores away.")


def _check_card(samples: _Samples) -> None:
    """It scores what its card says, and refuses what it does not."""
    card, media = getattr(samples.reward, "card", None), samples.media
    if card is None:
        return
    require(isinstance(card, RewardCard), "card is not a ddrl.rewards.card.RewardCard.")
    kind, other = ("images", "clips") if media.ndim == 4 else ("clips", "images")
    require(kind in card.media, f"the card does not say that it scores {kind}.")
    converted = media[:, None].expand(-1, 2, -1, -1, -1) if kind == "images" else media[:, 0]
    try:
        value = samples.score(media=converted)
    except Exception:  # whatever it raises, it refuses them
        require(other not in card.media, f"the card says that it scores {other}; it does not.")
        return
    require(other in card.media, f"the card does not say that it scores {other}.")
    require(value.shape == (len(media),), f"of {other}, score returns {tuple(value.shape)}.")
