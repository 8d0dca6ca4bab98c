"""What tools call the modules of a family: the keys of an adapter's file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

LoRAFormat = Literal["diffusers", "comfyui", "kohya"]
"""Whose keys: ``.lora_A/.lora_B`` under diffusers' names, under ComfyUI's, or kohya's
``lora_down/lora_up`` with a tensor ``alpha``."""


@dataclass(frozen=True)
class LoRANames:
    """The names of one family's modules outside of diffusers.

    Attributes:
        comfyui: what ComfyUI puts before a name; empty: it knows no such keys of the family.
        kohya: what scripts in kohya's format put before a name; empty: likewise.
        renames: patterns of diffusers' names and what the tools call that part.
    """

    comfyui: str = ""
    kohya: str = ""
    renames: tuple[tuple[str, str], ...] = ()

    def prefix(self, format: LoRAFormat) -> str:
        """What stands before a name; empty where the format is not known of the family."""
        return {"comfyui": self.comfyui, "kohya": self.kohya}.get(format, "")

    def module(self, name: str, format: LoRAFormat) -> str:
        """The key of a module, without what follows for each of its tensors.

        Args:
            name: in diffusers.
            format: one of which :meth:`prefix` is not empty.
        """
        for pattern, other in self.renames:
            name = re.sub(pattern, other, name)
        if format == "kohya":
            name = name.replace(".", "_")
        return self.prefix(format) + name
