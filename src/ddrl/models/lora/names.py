"""Names that tools give to the modules of a family: the keys of an adapter's file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

LoRAFormat = Literal["diffusers", "comfyui", "kohya"]
"""Format of the keys: ``.lora_A/.lora_B`` under diffusers' names, under ComfyUI's, or kohya's
``lora_down/lora_up`` with a tensor ``alpha``."""


@dataclass(frozen=True)
class LoRANames:
    """The names of one family's modules outside of diffusers.

    Attributes:
        comfyui: prefix of ComfyUI's names; empty: it knows no such keys of the family.
        kohya: prefix of names in kohya's format; empty: the format has no keys of the family.
        renames: patterns of diffusers' names, and the tools' names for these parts.
    """

    comfyui: str = ""
    kohya: str = ""
    renames: tuple[tuple[str, str], ...] = ()

    def prefix(self, format: LoRAFormat) -> str:
        """Return the prefix of names; empty where the format has no keys of the family."""
        return {"comfyui": self.comfyui, "kohya": self.kohya}.get(format, "")

    def module(self, name: str, format: LoRAFormat) -> str:
        """Return the key of a module, without the ending of each of its tensors.

        Args:
            name: name of the module in diffusers.
            format: format for which :meth:`prefix` is not empty.
        """
        for pattern, other in self.renames:
            name = re.sub(pattern, other, name)
        if format == "kohya":
            name = name.replace(".", "_")
        return self.prefix(format) + name
