"""Samples of several sizes as pictures of one size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ddrl.evaluation.measures.generate import SampleSet
from ddrl.records import Prompts

WHITE = 1.0


def on_one_canvas(media: Sequence[Tensor]) -> Tensor:
    """Pictures or clips of several sizes as one tensor: each in the middle of white.

    Args:
        media: pixels in [0, 1], each of shape (N_i, 3, H_i, W_i) or (N_i, T_i, 3, H_i, W_i).

    Returns:
        Shape (sum of N_i, ..., 3, H, W) with the largest H and the largest W; of one size nothing
        is added. Where not all are clips of one length, of each its middle frame.
    """
    if len({part.shape[1:-2] for part in media}) > 1:
        media = [part[:, part.shape[1] // 2] if part.ndim == 5 else part for part in media]
    height, width = (max(part.shape[side] for part in media) for side in (-2, -1))

    def centred(part: Tensor) -> Tensor:
        down, right = height - part.shape[-2], width - part.shape[-1]
        sides = (right // 2, right - right // 2, down // 2, down - down // 2)
        return F.pad(part, sides, value=WHITE) if down or right else part

    return torch.cat([centred(part) for part in media])


def first_samples(samples: Sequence[SampleSet], num: int) -> SampleSet:
    """Return the first samples of every prompt, prompt by prompt, on a canvas of one size.

    Args:
        samples: sets of one size each; a prompt is in one of them.
        num: samples per prompt.
    """
    chosen = [first_rows(one.prompts.prompt_id, num) for one in samples]
    ids = torch.cat([s.prompts.prompt_id[rows] for s, rows in zip(samples, chosen, strict=True)])
    order = ids.argsort(stable=True)
    parts = [one.media[rows] for one, rows in zip(samples, chosen, strict=True)]
    known = [s.prompts.select(rows.tolist()) for s, rows in zip(samples, chosen, strict=True)]
    prompts = Prompts(
        ids,
        tuple(text for one in known for text in one.text),
        tuple(metadata for one in known for metadata in one.metadata),
    )
    return SampleSet(on_one_canvas(parts)[order], prompts.select(order.tolist()))


def first_rows(prompt_id: Tensor, num: int) -> Tensor:
    """Return the rows of the first samples of every prompt that is there."""
    return torch.cat(
        [(prompt_id == one).nonzero().flatten()[:num] for one in sorted(set(prompt_id.tolist()))]
    )
