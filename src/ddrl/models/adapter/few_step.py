"""Checkpoints that were distilled for few steps, as far as their configs tell."""

from __future__ import annotations

import re
from typing import Any

SCHEDULERS = ("LCMScheduler", "SCMScheduler", "TCDScheduler")
"""Schedulers that are only released with consistency models and their kin."""

NAMES = re.compile(
    r"(?<![a-z0-9])(turbo|lightning|lightx2v|schnell|sprint|lcm|(step-?)?distill(ed)?|hyper-?sd|"
    r"fast-?wan|dmd2?|[1-8]-?steps?)(?![a-z])"
)


class FewStep:
    """Says why a checkpoint is thought to be distilled for few steps.

    Their velocity is not the mean velocity of any data, and a diffusion loss on data would undo the
    distillation. Configs give away FLUX.1 [schnell], FLUX.2 [klein], SD and SDXL
    Turbo, Lightning and LCM, SANA-Sprint, Z-Image-Turbo and Qwen-Image-Lightning. Those of
    SD3.5-Large-Turbo and of distilled Wan, LTX-Video and Cosmos are like their teachers': there
    only a name can tell, see :func:`few_step_name`.
    """

    pipeline: Any

    def distilled(self) -> str:
        """Return the reason as a clause; empty where nothing says so."""
        name = type(self.pipeline.scheduler).__name__
        if name in SCHEDULERS:
            return f"its scheduler is the {name}"
        return self._distilled()

    def _distilled(self) -> str:
        """Return what gives a family's distilled checkpoints away, as a clause."""
        return ""


def few_step_name(path: str) -> str:
    """Return why the name of a folder or a hub id says so, as a clause; or an empty string."""
    name = path.rstrip("/").rpartition("/")[2]
    found = NAMES.search(name.lower())
    return f"its name is {name}" if found else ""
