"""Arguments with which a family's own pipeline makes the samples that ddrl makes."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar


class Calling:
    """Knows the arguments of a pipeline's call; families override what differs."""

    pipeline: Any
    packages: ClassVar[tuple[str, ...]] = ()
    """Packages that the pipeline needs in addition to the extra ``models``."""

    def guidance_arguments(self, guidance: float) -> dict[str, object]:
        """Return arguments for u + w (c - u), in the pipeline's own meaning of guidance.

        Args:
            guidance: w; 1 is none.
        """
        found: dict[str, object] = {"guidance_scale": guidance}
        if guidance != 1 and "negative_prompt" in self.call_parameters():
            found["negative_prompt"] = ""
        return found

    def size_arguments(self, height: int, width: int) -> dict[str, object]:  # noqa: ARG002
        """Return further arguments that keep the pipeline from changing height and width.

        Args:
            height: height of the samples in pixels.
            width: width of the samples in pixels.
        """
        return {}

    def guidance_lines(self, guidance: float) -> list[str]:  # noqa: ARG002
        """Return lines of Python before the call, where guidance is not one of its arguments."""
        return []

    def caller(self) -> Any:  # noqa: ANN401 - diffusers is untyped
        """Return the class of the pipeline that makes what the model is set to make."""
        return type(self.pipeline)

    def call_parameters(self) -> dict[str, Any]:
        """Return the names of the call's arguments, and their defaults."""
        found = inspect.signature(self.caller().__call__).parameters
        return {name: parameter.default for name, parameter in found.items()}
