"""Tasks whose base is a pipeline that was trained elsewhere."""

from __future__ import annotations

import math

import torch

from ddrl.builders.data.sizes import latent_shapes
from ddrl.builders.opening import open_sketch
from ddrl.builders.pretrained import build_pretrained
from ddrl.builders.store import Progress
from ddrl.builders.tasks.task import Model, Task
from ddrl.errors import UsageError
from ddrl.models.adapter.blank import blank_condition
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.records import Condition


class PretrainedTask(Task):
    """A task with a base of a family of diffusers, or of the user's own family."""

    def base(
        self,
        device: torch.device,
        *,
        progress: Progress | None = None,  # noqa: ARG002 - a pipeline is loaded and not made
    ) -> DiffusersModel:
        """The pipeline of the recipe, with a fresh adapter if it has one."""
        return build_pretrained(self.recipe, device)

    def sketch(self) -> tuple[Model, tuple[int, ...]]:
        """The pipeline without its weights, once all that can be seen of them fits."""
        model = open_sketch(self.recipe)
        return model, max(latent_shapes(self.recipe, model), key=math.prod)

    def blank(self, model: Model, rows: int, latent_shape: tuple[int, ...]) -> Condition:
        """The family's own."""
        assert isinstance(model, DiffusersModel)
        made = blank_condition(model, rows, latent_shape)
        if made is None:
            raise UsageError("The shapes of its encoded texts are not known.")
        return made

    def latent_shapes(self, model: Model) -> tuple[tuple[int, ...], ...]:
        """As the family says."""
        assert isinstance(model, DiffusersModel)
        return latent_shapes(self.recipe, model)
