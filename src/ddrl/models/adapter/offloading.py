"""Frozen parts of a pipeline that wait on the CPU until they are used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

Task = Literal["text", "given", "pair", "media"]
"""Uses of parts: to encode texts, given frames, both together, or media; to decode."""

PARTS: Mapping[Task, tuple[str, ...]] = {
    "text": ("text_encoder", "text_encoder_2", "text_encoder_3", "connectors"),
    "given": ("vae", "image_encoder"),
    "pair": ("vae", "text_encoder"),
    "media": ("vae",),
}
"""Names of a pipeline's parts. What is not named is never used, and stays on the CPU."""


class Offload:
    """Brings parts to the device for a task, and sends them back when something else is due.

    That is another task, or a pass of the network, which needs the memory. So parts move once for
    many batches of one task, and where they are after an error doesn't matter.

    Args:
        network: on the device to stay.
        parts: the others, on the CPU, by their names in the pipeline.
        device: where they are used.
    """

    def __init__(
        self, network: nn.Module, parts: Mapping[str, nn.Module], device: torch.device
    ) -> None:
        self._parts, self._device = parts, device
        self._here: set[str] = set()
        network.register_forward_pre_hook(self._before_pass)

    def bring(self, task: Task) -> None:
        """Have on the device what a task needs; if that isn't there yet, nothing else."""
        wanted = {name for name in PARTS[task] if name in self._parts}
        if not wanted <= self._here:  # one task may be part of another
            self._have(wanted)

    def _before_pass(self, network: nn.Module, inputs: Any) -> None:  # noqa: ANN401, ARG002
        self._have(set())

    def _have(self, wanted: set[str]) -> None:
        for name in sorted(self._here - wanted):  # first, to make room
            self._parts[name].to("cpu")
            self._here.remove(name)
        for name in sorted(wanted - self._here):
            self._here.add(name)  # it may be there in part, if this fails
            self._parts[name].to(self._device)


class Offloading(ABC):
    """A model over a pipeline whose frozen parts can be offloaded."""

    pipeline: Any
    _offload: Offload | None = None

    @property
    @abstractmethod
    def transformer(self) -> nn.Module:
        """The network that is trained."""

    @abstractmethod
    def frozen_parts(self) -> list[nn.Module]:
        """Every network of the pipeline but the trained one."""

    def offload(self, device: torch.device) -> None:
        """Move the network to the device; have the other parts there only while they are used."""
        self.transformer.to(device)
        frozen = set(self.frozen_parts())
        parts = {n: p for n, p in self.pipeline.components.items() if p in frozen}
        for part in parts.values():
            part.to("cpu")
        self._offload = Offload(self.transformer, parts, device)

    def bring(self, task: Task) -> None:
        """Have the parts for a task on the device, where they are offloaded."""
        if self._offload is not None:
            self._offload.bring(task)
