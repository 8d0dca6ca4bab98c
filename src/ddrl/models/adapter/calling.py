"""How a family's own pipeline is asked for what ddrl samples."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar


class Calling:
    """Says what a pipeline is called with; families override what is theirs."""

    pipeline: Any
    packages: ClassVar[tuple[str, ...]] = ()
    """Those that the pipeline can't be loaded without, beside the extra ``models``."""

    def guidance_arguments(self, guidance: float) -> dict[str, object]:
        """Arguments of the pipeline for u + w (c - u), in the pipeline's own meaning of guidance.

        Args:
            guidance: w; 1 is none.
        """
        found: dict[str, object] = {"guidance_scale": guidance}
        if guidance != 1 and "negative_prompt" in self.call_parameters():
            found["negative_prompt"] = ""
        return found

    def size_arguments(self, height: int, width: int) -> dict[str, object]:  # noqa: ARG002
        """Arguments of the pipeline, beside height and width, without which it would change them.

        Args:
            height: of the samples, in pixels.
            width: likewise.
        """
        return {}

    def guidance_lines(self, guidance: float) -> list[str]:  # noqa: ARG002
        """Lines of Python before the call, where guidance is no argument of it."""
        return []

    def caller(self) -> Any:  # noqa: ANN401 - diffusers is untyped
        """The class of the pipeline that makes what the model is set to make."""
        return type(self.pipeline)

    def call_parameters(self) -> dict[str, Any]:
        """Names that the pipeline can be called with, and their defaults."""
        found = inspect.signature(self.caller().__call__).parameters
        return {name: parameter.default for name, parameter in found.items()}
