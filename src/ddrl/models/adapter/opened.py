"""A model of the user's own that is no pipeline, as the rest of ddrl takes one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ddrl.diffusion.process import Process
from ddrl.errors import UsageError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.base import DiffusionModel
from ddrl.records import Condition

METHODS = ("open", "encode", "predict", "encode_media", "decode", "latent_shape", "time_shift")
"""Methods of a class; the object that it opens also needs ``process`` and ``transformer``."""

NETWORK_FILE = "network.safetensors"


class OpenedModel(DiffusersModel):
    """An object of the protocol :class:`~ddrl.models.base.DiffusionModel`, opened by its own class.

    Its networks are those of its attributes that are modules; all but ``transformer`` are frozen.
    Its other attributes that are numbers, texts or truth values are its settings, and are part of
    the keys of caches.

    Args:
        inner: the user's object.

    Attributes:
        inner: the same.
    """

    pipelines: ClassVar[tuple[str, ...]] = ()
    lora_targets: ClassVar[tuple[str, ...]] = ()
    own: ClassVar[Any]
    """The user's class, of subclasses that :meth:`of` makes."""

    def __init__(self, inner: DiffusionModel) -> None:
        self.inner: Any = inner
        super().__init__(_Parts(inner))

    @classmethod
    def of(cls, own: Any) -> type[OpenedModel]:  # noqa: ANN401 - the user's class
        """A family by the name of the user's class, which opens its models."""
        members = {
            "own": own,
            "__module__": own.__module__,
            "__doc__": own.__doc__,
            "lora_targets": tuple(getattr(own, "lora_targets", ())),
        }
        return type(own.__name__, (cls,), members)

    @classmethod
    def open(cls, path: str | Path, *, dtype: torch.dtype) -> OpenedModel:
        """Have the user's class open a model.

        Raises:
            UsageError: what it opens is no model.
        """
        inner = cls.own.open(str(path), dtype=dtype)
        missing = [n for n in (*METHODS[1:], "process", "transformer") if not hasattr(inner, n)]
        if missing:
            raise UsageError(
                f"{cls.__name__}.open gives a {type(inner).__name__}, which has no "
                f"{' and no '.join(missing)}.",
                hint="return an instance of the class, with these members",
            )
        return cls(inner)

    @property
    def process(self) -> Process:
        """The model's own."""
        process: Process = self.inner.process
        return process

    def _encode(self, texts: list[str]) -> Condition:
        condition: Condition = self.inner.encode(texts)
        return condition

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``."""
        velocity: Tensor = self.inner.predict(x_t, t, condition)
        return velocity

    @torch.no_grad()
    def encode_media(self, media: Tensor) -> Tensor:
        """Pixels to latents, float32."""
        latents: Tensor = self.inner.encode_media(media)
        return latents.float()

    @torch.no_grad()
    def decode(self, latents: Tensor, condition: Condition | None = None) -> Tensor:
        """Decode latents to pixels in [0, 1], float32."""
        pixels: Tensor = self.inner.decode(latents, condition)
        return pixels.float()

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        """Return the shape of one sample's latents.

        Raises:
            DataError: the model can't make media of this size.
        """
        return tuple(self.inner.latent_shape(height, width, frames))

    def time_shift(self, latent_shape: Sequence[int], num_steps: int | None = None) -> float:
        """Return the model's own shift."""
        return float(self.inner.time_shift(latent_shape, num_steps))

    def is_used(self, name: str) -> bool:
        """Return whether the velocity depends on the module or parameter of this name."""
        return bool(self.inner.is_used(name)) if hasattr(self.inner, "is_used") else True

    def is_video(self) -> bool:
        """Return the model's attribute ``is_video``; without one it makes pictures."""
        return bool(getattr(self.inner, "makes_clips", False))

    def blank(self, rows: int, latent_shape: Sequence[int]) -> Condition | None:
        """A condition with nothing in it, if the model makes one."""
        blank = getattr(self.inner, "blank", None)
        made: Condition | None = None if blank is None else blank(rows, latent_shape)
        return made

    def offload(self, device: torch.device) -> None:  # noqa: ARG002
        """Refuse: which parts are for what is known of pipelines alone.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"model.offload is for pipelines, and {type(self).__name__} is none.",
            hint="set model.offload = false",
        )


class _Parts:
    """Stands where a pipeline would, and holds the networks."""

    def __init__(self, inner: Any) -> None:  # noqa: ANN401 - the user's object
        self._inner = inner
        self.transformer: nn.Module = inner.transformer
        held = inner._modules if isinstance(inner, nn.Module) else vars(inner)
        found = {n: p for n, p in held.items() if isinstance(p, nn.Module)}
        settings = {
            name: value
            for name, value in vars(inner).items()
            if isinstance(value, bool | int | float | str)
        }
        self.components: dict[str, Any] = {
            "transformer": self.transformer,
            **{n: p for n, p in found.items() if self.transformer not in set(p.modules())},
            "settings": SimpleNamespace(config=settings),
        }
        self.vae = found.get("vae", nn.Module())
        self.scheduler = SimpleNamespace(config={})
        self.config: dict[str, Any] = {}

    def to(self, device: torch.device) -> None:
        """Move the networks."""
        for part in self.components.values():
            if isinstance(part, nn.Module):
                part.to(device)

    def save_pretrained(self, folder: Path) -> None:
        """Have the model write itself, or else write the network."""
        if hasattr(self._inner, "save"):
            self._inner.save(str(folder))
            return
        from safetensors.torch import save_model

        folder.mkdir(parents=True, exist_ok=True)
        save_model(self.transformer, str(folder / NETWORK_FILE))
