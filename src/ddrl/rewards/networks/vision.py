"""Features of pictures, by any vision model of transformers."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ddrl.errors import WeightsError
from ddrl.rewards.frames import batches, pick_device
from ddrl.rewards.networks.towers import UNREADABLE, Precision, check_keys, preprocess


class VisionModel:
    """A CLIP, SigLIP, DINO or ViT of transformers, with the preprocessing of its image processor.

    Args:
        weights: a folder written by ``save_pretrained``, or a hub id.
        device: see :func:`~ddrl.rewards.frames.pick_device`.
        precision: of the weights and of the passes.
        batch_size: pictures per pass.

    Raises:
        WeightsError: they can't be read, are incomplete, or are of a model that takes no pictures.
    """

    def __init__(
        self,
        weights: str,
        *,
        device: str = "",
        precision: Precision = "float32",
        batch_size: int = 16,
    ) -> None:
        import transformers

        self.device = pick_device(device)
        self._dtype, self._batch_size = getattr(torch, precision), batch_size
        try:
            with torch.random.fork_rng(devices=[]):  # fresh weights are drawn, and written over
                loaded, info = transformers.AutoModel.from_pretrained(
                    weights, trust_remote_code=False, dtype=self._dtype, output_loading_info=True
                )
            self._images = transformers.AutoImageProcessor.from_pretrained(
                weights, trust_remote_code=False, backend="pil"
            )
        except UNREADABLE as error:
            raise WeightsError(
                f"{weights} can't be loaded: {' '.join(str(error).split())[:300]}",
                hint="give a folder with the weights and the image processor of a vision model"
                if Path(weights).is_dir()
                else "offline, download the model to a folder and name that folder",
            ) from error
        self._model = getattr(loaded, "vision_model", loaded)
        if self._model.main_input_name != "pixel_values":
            raise WeightsError(
                f"{weights} holds a {type(loaded).__name__}, which takes no pictures.",
                hint="give a vision model, such as a CLIP or DINOv2",
            )
        check_keys(weights, list(info["missing_keys"]), list(info["unexpected_keys"]))
        self._model.to(self.device).eval().requires_grad_(False)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Pixels in [0, 1], shape (N, 3, H, W) -> features of length 1, (N, D), on the CPU."""
        found = []
        for rows in batches(len(images), self._batch_size):
            pixels = preprocess(images[rows].to(self.device), self._images)
            output = self._model(pixel_values=pixels.to(self._dtype))
            pooled = getattr(output, "pooler_output", None)
            pooled = output.last_hidden_state.mean(1) if pooled is None else pooled
            found.append(F.normalize(pooled.flatten(1).float(), dim=-1).cpu())
        return torch.cat(found)
