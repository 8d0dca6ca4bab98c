"""What `ddrl data synthesize` makes: the synthetic anchors of a recipe, and their pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.builders.data.corpus import Part
from ddrl.builders.device import pick_device
from ddrl.builders.scorers import build_scorer
from ddrl.builders.store import Progress
from ddrl.builders.synthetic.anchors import make_anchors
from ddrl.builders.synthetic.drawing import Synthetic
from ddrl.builders.tasks.table import task_of
from ddrl.builders.tasks.task import Model
from ddrl.recipe import Recipe


@dataclass(frozen=True)
class Synthesis:
    """The anchors of a recipe, and the model that decodes them.

    Attributes:
        made: the anchors.
        part: the data whose prompts they follow.
        model: the base.
    """

    made: Synthetic
    part: Part
    model: Model

    def pixels(self, row: int) -> Tensor:
        """The pixels of one sample, uint8, shape (H, W, 3), of a clip (T, H, W, 3)."""
        prompt = self.made.samples[row].prompt
        device = next(self.model.transformer.parameters()).device
        latents = self.made.latents[row : row + 1].to(device)
        condition = self.part.condition[prompt : prompt + 1].to(device)
        media = self.model.decode(latents, condition)[0].cpu()
        return (media.clamp(0, 1) * 255).round().to(torch.uint8).movedim(-3, -1)


def synthesize_recipe(recipe: Recipe, *, progress: Progress | None = None) -> Synthesis:
    """Make the samples of the base that a recipe's training takes, or find them.

    Raises:
        DDRLError: of the kind that fits, for what the recipe asks for and can't be had.
    """
    task = task_of(recipe)
    task.check()
    # Before the model, since it costs less to find that a reward is missing.
    scorer = build_scorer(task) if recipe.data.synthetic.keep < 1 else None
    model = task.model(pick_device(recipe), progress=progress)
    part = task.corpus(model, progress=progress).train
    made = make_anchors(task, model, part, scorer, progress=progress)
    return Synthesis(made, part, model)
