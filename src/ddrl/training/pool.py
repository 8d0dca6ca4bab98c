"""The prompts and data of a run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.records import Anchor, ConditionRows, LatentRows, Prompts, RepeatedRows


@dataclass(frozen=True)
class Pool:
    """All prompts and data of a run, encoded once; an iteration reads the rows that it needs.

    Attributes:
        prompts: every prompt, in the order of its id; a text may be there twice, with other first
            frames.
        condition: encoded prompts, one row per prompt.
        x0: clean latents of the data, shape (N, ...).
        caption_id: the prompt of each latent, shape (N,), on the CPU.
    """

    prompts: Prompts
    condition: ConditionRows
    x0: LatentRows
    caption_id: Tensor

    def anchor(self, rows: Tensor, *, device: torch.device | str) -> Anchor:
        """Read rows of the data, on the device, shape (M,); each prompt's condition once."""
        prompts = self.caption_id[rows].tolist()
        place = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
        condition = RepeatedRows(
            self.condition[torch.tensor(list(place))].to(device),
            torch.tensor([place[prompt] for prompt in prompts], device=device),
        )
        return Anchor(self.x0[rows].to(device), condition, torch.arange(len(rows)))
