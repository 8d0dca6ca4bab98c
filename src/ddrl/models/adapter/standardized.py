"""Families whose VAE comes with a mean and a standard deviation per latent channel."""

from __future__ import annotations

from torch import Tensor

from ddrl.models.adapter.diffusers_model import DiffusersModel


class Standardized(DiffusersModel):
    """A family that has (z - mean) / std, per channel, for latents z of its VAE."""

    def normalize(self, latents: Tensor) -> Tensor:
        """The VAE's latents to those that the network sees: (z - mean) / std, per channel."""
        mean, std = self.statistics(latents)
        return (latents - mean) / std

    def denormalize(self, latents: Tensor) -> Tensor:
        """The inverse of :meth:`normalize`."""
        mean, std = self.statistics(latents)
        return latents * std + mean

    def statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, shaped, typed and placed so that they fit ``like``.

        Most VAEs have them in their config.
        """
        config = self.vae.config
        mean, std = (like.new_tensor(c) for c in (config.latents_mean, config.latents_std))
        column = (-1, *(1,) * (like.ndim - 2))
        return mean.reshape(column), std.reshape(column)
