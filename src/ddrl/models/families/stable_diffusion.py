"""Stable Diffusion 1, 2 and XL: a U-Net on (C, H, W) latents, trained at 1000 levels of noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from ddrl.diffusion.process import Prediction, per_row
from ddrl.diffusion.tabulated import TabulatedVP
from ddrl.errors import UsageError, WeightsError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.lora.names import LoRANames
from ddrl.records import Condition

PREDICTIONS: dict[str, Prediction] = {"epsilon": "noise", "v_prediction": "v", "sample": "x0"}


@dataclass(frozen=True)
class StableDiffusionCondition(Condition):
    """Encoded texts.

    Attributes:
        embeds: CLIP tokens, shape (B, 77, D).
    """

    embeds: Tensor


@dataclass(frozen=True)
class SDXLCondition(StableDiffusionCondition):
    """Encoded texts.

    Attributes:
        pooled: the second encoder's summaries, shape (B, P).
    """

    pooled: Tensor


class StableDiffusion(DiffusersModel):
    """SD 1 and 2; the network predicts noise, v or x0 and takes the index of the noise level.

    The process is the table of the pipeline's scheduler, and so is what the network predicts.
    Level n is the time (n + 1) / N: t = 1 is the last level and t = 0, below the first, is data.

    Raises:
        WeightsError: the scheduler has no such table, or the prediction doesn't fit it.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionPipeline",)
    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    lora_names: ClassVar[LoRANames] = LoRANames(kohya="lora_unet_")

    def __init__(self, pipeline: Any) -> None:  # noqa: ANN401 - diffusers is untyped
        super().__init__(pipeline)
        scheduler = pipeline.scheduler
        name = type(scheduler).__name__
        kind = getattr(scheduler.config, "prediction_type", None)
        try:
            self._table = TabulatedVP(_with_exact_end(scheduler.alphas_cumprod))
        except (AttributeError, UsageError) as error:
            raise WeightsError(
                f"{name} has no table of noise levels.",
                hint="take a pipeline whose scheduler has betas, such as DDIMScheduler",
            ) from error
        if kind not in PREDICTIONS:
            raise WeightsError(
                f"{name} says that the network predicts {kind!r}.",
                hint=f"known are {', '.join(PREDICTIONS)}",
            )
        self._prediction = PREDICTIONS[kind]
        if self._prediction == "noise" and not self._table.alphas_cumprod[-1]:
            raise WeightsError(
                f"{name} has zero terminal SNR, where predicted noise says nothing about the data.",
                hint="such a model predicts v: set prediction_type to v_prediction",
            )
        self._process = self._table

    @property
    def transformer(self) -> nn.Module:
        """The network that is trained, here a U-Net."""
        network: nn.Module = self.pipeline.unet
        return network

    def _distilled(self) -> str:
        """Turbo and Lightning take the last level first; so do models of zero terminal SNR."""
        if self.transformer.config.time_cond_proj_dim is not None:  # type: ignore[union-attr]
            return "its network is told the guidance, as of latent consistency models"
        config = self.pipeline.scheduler.config
        is_trailing = getattr(config, "timestep_spacing", "") == "trailing"
        if is_trailing and self._prediction == "noise":
            return "its scheduler takes trailing timesteps, as of Turbo and Lightning"
        return ""

    def _encode(self, texts: list[str]) -> StableDiffusionCondition:
        embeds, _ = self.pipeline.encode_prompt(
            prompt=texts,
            device=self.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        return StableDiffusionCondition(embeds)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``, from what the network predicts."""
        assert isinstance(condition, StableDiffusionCondition)
        level = t * len(self._table) - 1
        output = self.transformer(
            x_t.to(self.dtype),
            level.clamp_min(0),
            encoder_hidden_states=condition.embeds.to(self.dtype),
            added_cond_kwargs=self._added(x_t, condition),
            return_dict=False,
        )
        predicted = cast(Tensor, output[0]).float()
        return self._table.to_velocity(predicted, x_t.float(), t, prediction=self._prediction)

    def _added(
        self,
        x_t: Tensor,  # noqa: ARG002 - SDXL's
        condition: StableDiffusionCondition,  # noqa: ARG002
    ) -> dict[str, Tensor] | None:
        """Return further inputs of the network; None: there are none."""
        return None


class SDXL(StableDiffusion):
    """SDXL; besides the text, the network is told the size of the image, uncropped.

    The pipeline's unconditional embedding is 0, if its ``force_zeros_for_empty_prompt`` is set; so
    is that of the empty text here.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionXLPipeline",)

    def __init__(self, pipeline: Any) -> None:  # noqa: ANN401 - diffusers is untyped
        super().__init__(pipeline)
        if self.vae.dtype == torch.float16 and self.vae.config.force_upcast:
            self.vae.float()  # it overflows in half precision

    def _encode(self, texts: list[str]) -> SDXLCondition:
        embeds, _, pooled, _ = self.pipeline.encode_prompt(
            prompt=texts, device=self.device, do_classifier_free_guidance=False
        )
        if self.pipeline.config.force_zeros_for_empty_prompt:
            given = torch.tensor([bool(text) for text in texts], device=embeds.device)
            embeds, pooled = embeds * per_row(given, embeds), pooled * per_row(given, pooled)
        return SDXLCondition(embeds, pooled)

    def _added(self, x_t: Tensor, condition: StableDiffusionCondition) -> dict[str, Tensor]:
        """The summaries, and (original height, width, top, left of the crop, height, width)."""
        assert isinstance(condition, SDXLCondition)
        height, width = (side * self.spatial_factor for side in x_t.shape[-2:])
        sizes = (height, width, 0, 0, height, width)
        # Filled rather than copied, so that nothing waits for a transfer to the device.
        columns = [torch.full((len(x_t),), size, device=x_t.device) for size in sizes]
        return {
            "text_embeds": condition.pooled.to(self.dtype),
            "time_ids": torch.stack(columns, 1).to(self.dtype),
        }

    def _statistics(self) -> tuple[Tensor, Tensor] | None:
        """Mean and standard deviation per channel, which some VAEs of this family have."""
        mean, std = (getattr(self.vae.config, f"latents_{n}", None) for n in ("mean", "std"))
        if mean is None or std is None:
            return None
        return torch.tensor(mean).reshape(-1, 1, 1), torch.tensor(std).reshape(-1, 1, 1)

    def normalize(self, latents: Tensor) -> Tensor:
        """The VAE's latents to those that the network sees."""
        if (statistics := self._statistics()) is None:
            return super().normalize(latents)
        mean, std = (s.to(latents) for s in statistics)
        return (latents - mean) / std * float(self.vae.config.scaling_factor)

    def denormalize(self, latents: Tensor) -> Tensor:
        """The inverse of :meth:`normalize`."""
        if (statistics := self._statistics()) is None:
            return super().denormalize(latents)
        mean, std = (s.to(latents) for s in statistics)
        return latents * std / float(self.vae.config.scaling_factor) + mean


def _with_exact_end(alphas_cumprod: Tensor) -> Tensor:
    """The table with a last alpha^2 of 0 where it is 0 in all but name.

    Schedulers that divide by alpha put 2^-24 there for zero terminal SNR; our kernels have a case
    for 0, and would take enormous steps for 2^-24.
    """
    end = alphas_cumprod[-1:]
    return torch.cat([alphas_cumprod[:-1], torch.where(end < 1e-6, 0, end)])
