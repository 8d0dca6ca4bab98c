"""Conformance of a reward: call :func:`check_reward` from a test, with a few real samples."""

from __future__ import annotations

import torch
from torch import Tensor

from ddrl.errors import DDRLError
from ddrl.records import Prompts
from ddrl.rewards.base import Reward
from ddrl.rewards.card import RewardCard
from ddrl.testing.require import require

__all__ = ["check_reward"]


def check_reward(
    reward: Reward, media: Tensor, prompts: Prompts, *, tolerance: float = 1e-5
) -> None:
    """Run every check on samples that the reward is meant for.

    Args:
        reward: with its options.
        media: pixels in [0, 1], images (B, 3, H, W) or clips (B, T, 3, H, W), B at least 3.
        prompts: length B; at least one sample scores otherwise than the others.
        tolerance: by how much a score may depend on the batch that it is computed in, relatively
            to the largest score.

    Raises:
        ConformanceError: the first check that fails; it says what is wrong with the reward.
    """
    before = media.clone()
    value = reward.score(media, prompts)
    require(torch.equal(media, before), "score changes the media that it is given.")
    require(isinstance(value, Tensor), f"score returns a {type(value).__name__}, not a Tensor.")
    require(value.shape == (len(media),), f"score returns {tuple(value.shape)}, not (B,).")
    require(value.is_floating_point(), f"score returns {value.dtype}, not floats.")
    value = value.detach().float().cpu()
    require(bool(value.isfinite().all()), "score returns values that are not finite.")
    require(not torch.equal(value, value[:1].expand_as(value)), "every sample scores the same.")
    require(torch.equal(value, _score(reward, media, prompts)), "score is not deterministic.")

    limit = tolerance * max(1.0, float(value.abs().max()))
    order = [*range(1, len(media)), 0]
    moved = _score(reward, media[order], prompts.select(order))
    off = float((moved - value[order]).abs().max())
    require(off <= limit, f"samples in another order score otherwise, by {off:.2g}.")
    alone = [_score(reward, media[i : i + 1], prompts.select([i])) for i in range(len(media))]
    off = float((torch.cat(alone) - value).abs().max())
    require(off <= limit, f"a sample alone scores otherwise than in a batch, by {off:.2g}.")
    _check_failures(reward, media, prompts)
    _check_card(reward, media, prompts)


def _score(reward: Reward, media: Tensor, prompts: Prompts) -> Tensor:
    return reward.score(media, prompts).detach().float().cpu()


def _check_failures(reward: Reward, media: Tensor, prompts: Prompts) -> None:
    """A sample of which nothing is known has no number."""
    broken = media.clone()
    broken[0] = torch.nan
    try:
        value = _score(reward, broken, prompts)
    except DDRLError:
        return
    require(not bool(value[0].isfinite()), "pixels that are NaN get a score that is finite.")
    require(bool(value[1:].isfinite().all()), "a sample of NaN takes the others' scores away.")


def _check_card(reward: Reward, media: Tensor, prompts: Prompts) -> None:
    """It scores what its card says, and refuses what it does not."""
    card = getattr(reward, "card", None)
    if card is None:
        return
    require(isinstance(card, RewardCard), "card is not a ddrl.rewards.card.RewardCard.")
    kind, other = ("images", "clips") if media.ndim == 4 else ("clips", "images")
    require(kind in card.media, f"the card does not say that it scores {kind}.")
    converted = media[:, None].expand(-1, 2, -1, -1, -1) if kind == "images" else media[:, 0]
    try:
        value = _score(reward, converted, prompts)
    except Exception:  # whatever it raises, it refuses them
        require(other not in card.media, f"the card says that it scores {other}; it does not.")
        return
    require(other in card.media, f"the card does not say that it scores {other}.")
    require(value.shape == (len(media),), f"of {other}, score returns {tuple(value.shape)}.")
