"""The embedded model: rectified flow in pixel space, texts from a fixed vocabulary.

It needs no download and no extra, and trains on a laptop; it stands behind the same protocol as
the large families, so that everything else in ddrl can be tried, and tested, without them.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ddrl.diffusion.process import RectifiedFlow
from ddrl.errors import DataError, UsageError, WeightsError
from ddrl.models.networks import DiT, FiLMNet
from ddrl.records import Condition

__all__ = ["TinyCondition", "TinyConfig", "TinyModel"]

# What reading a missing, broken or foreign folder raises.
UNREADABLE: tuple[type[Exception], ...] = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError),
    SafetensorError,
)


@dataclass(frozen=True)
class TinyConfig:
    """The architecture.

    Attributes:
        vocabulary: the texts that the model knows, without the empty one.
        height: of the images, in pixels.
        columns: their width in pixels.
        channels: 1 (grey) or 3.
        network: ``mlp`` (fast at 8x8) or ``dit``.
        width: of the hidden layers.
        depth: number of blocks.
        heads: attention heads (``dit``).
        patch: patch size in pixels (``dit``).
    """

    vocabulary: tuple[str, ...]
    height: int
    columns: int
    channels: int = 1
    network: Literal["mlp", "dit"] = "mlp"
    width: int = 256
    depth: int = 4
    heads: int = 4
    patch: int = 2

    def build(self) -> FiLMNet | DiT:
        """Make the network with fresh weights, from torch's global generator."""
        shape = (self.channels, self.height, self.columns)
        num_labels = len(self.vocabulary) + 1
        if self.network == "mlp":
            return FiLMNet(
                num_pixels=self.channels * self.height * self.columns,
                num_labels=num_labels,
                width=self.width,
                depth=self.depth,
            )
        if self.height % self.patch or self.columns % self.patch or self.width % self.heads:
            raise UsageError(
                f"A DiT of width {self.width}, {self.heads} heads and patch {self.patch} does not "
                f"fit images of {self.height}x{self.columns}.",
                hint="heads must divide the width, and patch the height and the width in pixels",
            )
        return DiT(
            shape=shape,
            num_labels=num_labels,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            patch=self.patch,
        )


@dataclass(frozen=True)
class TinyCondition(Condition):
    """A vocabulary index per sample, 0 for the empty text; int64, shape (B,)."""

    label: Tensor


class TinyModel:
    """A :class:`~ddrl.models.base.DiffusionModel` that is wholly contained in this package."""

    def __init__(self, config: TinyConfig, *, seed: int = 0) -> None:
        """Build with fresh weights.

        Args:
            config: the architecture.
            seed: of the weights; the global generator is left as it was.
        """
        self.config = config
        self.process = RectifiedFlow()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.transformer: nn.Module = config.build()
        self._index = {text: i for i, text in enumerate(("", *config.vocabulary))}

    def encode(self, texts: Sequence[str]) -> TinyCondition:
        """Look the texts up in the vocabulary."""
        for text in texts:
            if text not in self._index:
                near = difflib.get_close_matches(text, self.config.vocabulary, 1)
                raise DataError(
                    f"The model does not know the prompt {text!r}.",
                    hint=f"did you mean {near[0]!r}?"
                    if near
                    else "it knows " + ", ".join(map(repr, self.config.vocabulary)),
                )
        device = next(self.transformer.parameters()).device
        return TinyCondition(torch.tensor([self._index[text] for text in texts], device=device))

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``."""
        assert isinstance(condition, TinyCondition)
        velocity: Tensor = self.transformer(x_t, t, condition.label)
        return velocity

    def encode_media(self, media: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [0, 1] to latents (B, C, H, W) in [-1, 1]."""
        self.latent_shape(media.shape[-2], media.shape[-1])
        grey = media.mean(1, keepdim=True) if self.config.channels == 1 else media
        return 2 * grey - 1

    def decode(self, latents: Tensor, condition: Condition | None = None) -> Tensor:  # noqa: ARG002
        """Latents to pixels (B, 3, H, W), clipped to [0, 1]."""
        pixels = ((latents + 1) / 2).clamp(0, 1)
        return pixels.expand(-1, 3, -1, -1)

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        """(C, H, W), for the one size that the model makes."""
        if (height, width, frames) != (self.config.height, self.config.columns, 1):
            raise DataError(
                f"The model makes images of {self.config.height}x{self.config.columns}, "
                f"not {height}x{width} with {frames} frames."
            )
        return (self.config.channels, height, width)

    def time_shift(self, latent_shape: Sequence[int]) -> float:  # noqa: ARG002
        """No shift: pixels are few."""
        return 1.0

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(dict(self.transformer.state_dict()), folder / "model.safetensors")
        (folder / "config.json").write_text(
            json.dumps({"family": "tiny", **asdict(self.config)}, indent=1)
        )

    @classmethod
    def load(cls, folder: Path) -> TinyModel:
        """Read what :meth:`save` wrote.

        Raises:
            WeightsError: a file is missing, unreadable, or of another model.
        """
        try:
            values = json.loads((folder / "config.json").read_text())
            family = values.pop("family", None)
            if family != "tiny":
                raise WeightsError(f"{folder} holds a model of family {family!r}, not 'tiny'.")
            values["vocabulary"] = tuple(values["vocabulary"])
            model = cls(TinyConfig(**values))
            model.transformer.load_state_dict(load_file(folder / "model.safetensors"))
        except UNREADABLE as error:
            raise WeightsError(
                f"The model in {folder} can't be read: {' '.join(str(error).split())[:200]}.",
                hint="delete the folder to have it made again, or check the path",
            ) from error
        return model
