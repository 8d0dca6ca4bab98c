"""The protocol of a model, as the rest of ddrl uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from ddrl.diffusion.process import Process
from ddrl.records import Condition


class DiffusionModel(Protocol):
    """A diffusion or flow model, whatever its network predicts and wherever its latents live.

    Media are pixels in [0, 1]: images (B, 3, H, W), videos (B, T, 3, H, W).
    """

    @property
    def process(self) -> Process:
        """The forward process, eqs. (P)."""
        ...

    @property
    def transformer(self) -> nn.Module:
        """The network that is trained. Parameters with ``requires_grad`` are the trainable set."""
        ...

    def encode(self, texts: Sequence[str]) -> Condition:
        """Encode U texts; the empty text is the unconditional condition.

        Raises:
            DataError: a text can't be encoded.
        """
        ...

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Return the velocity of eq. (P2).

        Args:
            x_t: latents, shape (B, ...).
            t: times in [0, 1], 1 is noise, shape (B,).
            condition: conditions of the samples, length B.
        """
        ...

    def encode_media(self, media: Tensor) -> Tensor:
        """Encode pixels to latents, shape (B, ...)."""
        ...

    def decode(self, latents: Tensor, condition: Condition | None = None) -> Tensor:
        """Decode latents to pixels in [0, 1].

        Args:
            latents: latents, shape (B, ...).
            condition: conditions of the samples, length B; needed where it holds first frames.
        """
        ...

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        """Return the shape of one sample's latents for media of this size, in pixels and frames.

        Raises:
            DataError: the model can't make media of this size.
        """
        ...

    def time_shift(self, latent_shape: Sequence[int], num_steps: int | None = None) -> float:
        """Return the family's own shift of the time grid; 1 is none.

        Args:
            latent_shape: shape of one sample's latents.
            num_steps: steps of the grid, for families whose shift depends on it; None: a default.
        """
        ...
