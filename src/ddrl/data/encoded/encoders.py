"""The functions that a cache is filled by, and what their output depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.errors import DataError


@dataclass(frozen=True)
class MediaEncoder:
    """What makes latents, and what they depend on.

    Attributes:
        encode: pixels in [0, 1], float32, on the CPU, shape (1, 3, H, W) or (1, T, 3, H, W), to
            latents, shape (1, ...). The same for the same pixels: no drawing from a posterior.
        fingerprint: of the weights and settings of the encoder.
        dtype: that latents are stored in.
    """

    encode: Callable[[Tensor], Tensor]
    fingerprint: str
    dtype: torch.dtype = torch.bfloat16


@dataclass(frozen=True)
class TextEncoder:
    """What makes text embeddings, and what they depend on.

    Attributes:
        encode: N texts to named tensors, shape (N, ...). A text's row must not depend on the
            other texts: pad to a fixed length.
        fingerprint: of the weights and settings of all text encoders.
        dtype: that embeddings are stored in, unless they come in a narrower one; masks and ids
            keep theirs.
        batch_size: texts that are encoded at once.
    """

    encode: Callable[[Sequence[str]], dict[str, Tensor]]
    fingerprint: str
    dtype: torch.dtype = torch.bfloat16
    batch_size: int = 16


@dataclass(frozen=True)
class GivenEncoder:
    """What makes features of given frames or source images, and what they depend on.

    Attributes:
        encode: pixels in [0, 1], float32, on the CPU, shape (1, num_frames, 3, H, W), the number of
            frames of the clip that they begin, and the caption, to named tensors, shape (1, ...).
        fingerprint: of the weights and settings of the encoders.
        num_frames: frames that are given.
        dtype: that features are stored in, unless they come in a narrower one.
        is_source: whether it is the source image of an edit, which is never the result's own.
        reads_text: whether the caption counts.
    """

    encode: Callable[[Tensor, int, str], dict[str, Tensor]]
    fingerprint: str
    num_frames: int
    dtype: torch.dtype = torch.float32
    is_source: bool = False
    reads_text: bool = False

    @property
    def name(self) -> str:
        """What is given, for messages."""
        return "source image" if self.is_source else "first frame"


def as_stored(tensor: Tensor, dtype: torch.dtype, what: str) -> Tensor:
    """Return a tensor as it is stored: numbers in the dtype, masks and ids as they are.

    Numbers of fewer bits stay as they are: more would hold nothing more.

    Raises:
        DataError: a number is not finite in the dtype.
    """
    if not tensor.is_floating_point():
        return tensor
    if tensor.dtype.itemsize < dtype.itemsize:
        dtype = tensor.dtype
    stored = tensor.to(dtype)
    if not bool(stored.isfinite().all()):
        raise DataError(
            f"The encoder's output for {what} is not finite in {dtype}.",
            hint='set model.dtype = "float32"',
        )
    return stored
