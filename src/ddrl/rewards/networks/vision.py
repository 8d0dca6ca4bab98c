"""Features of pictures, by any vision model of transformers."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ddrl.errors import WeightsError
from ddrl.rewards.frames import Runtime
from ddrl.rewards.networks.loading import check_keys, load_images, load_model, loading
from ddrl.rewards.networks.towers import preprocess


class VisionModel:
    """A CLIP, SigLIP, DINO or ViT of transformers, with the preprocessing of its image processor.

    Args:
        weights: a folder written by ``save_pretrained``, or a hub id.
        runtime: where and how it runs.

    Raises:
        WeightsError: they can't be read, are incomplete, or are of a model that takes no pictures.
    """

    def __init__(self, weights: str, runtime: Runtime) -> None:
        import transformers

        self._runtime = runtime
        with loading(
            weights,
            "give a folder with the weights and the image processor of a vision model"
            if Path(weights).is_dir()
            else "offline, download the model to a folder and name that folder",
        ):
            loaded, info = load_model(transformers.AutoModel, weights, runtime.dtype)
            self._images = load_images(weights)
        self._model = getattr(loaded, "vision_model", loaded)
        if self._model.main_input_name != "pixel_values":
            raise WeightsError(
                f"{weights} holds a {type(loaded).__name__}, which takes no pictures.",
                hint="give a vision model, such as a CLIP or DINOv2",
            )
        check_keys(weights, list(info["missing_keys"]), list(info["unexpected_keys"]))
        self._model.to(runtime.device).eval().requires_grad_(False)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Pixels in [0, 1], shape (N, 3, H, W) -> features of length 1, (N, D), on the CPU."""
        found = []
        for rows in self._runtime.slices(len(images)):
            pixels = preprocess(images[rows].to(self._runtime.device), self._images)
            output = self._model(pixel_values=pixels.to(self._runtime.dtype))
            pooled = getattr(output, "pooler_output", None)
            pooled = output.last_hidden_state.mean(1) if pooled is None else pooled
            found.append(F.normalize(pooled.flatten(1).float(), dim=-1).cpu())
        return torch.cat(found)
