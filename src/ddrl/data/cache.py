"""Latents and text embeddings, encoded once and found again by what they are made from.

A file's name is the hash of all that its content depends on, so a stale one can't be used: the
key of what is asked for has changed, and what lies under the old key is not looked at.

- media: the file's content, the model's fingerprint, bucket, frame rate, dtype;
- text: the caption, the text encoders' fingerprint, dtype; stored once per distinct caption.

Files are written beside and renamed, so a killed run leaves no half file and goes on where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ddrl.data.framing import Bucket, Framing, fit
from ddrl.data.images import read_image
from ddrl.data.locators import content_hash
from ddrl.data.media import Facts, frame_media, probe, to_unit
from ddrl.data.problems import BrokenFileError, OnBroken, Problem, settle
from ddrl.data.samples import Sample
from ddrl.errors import DataError

__all__ = [
    "EncodeReport",
    "EncodedCache",
    "EncodedSample",
    "MediaEncoder",
    "TextEncoder",
]

# Part of every key: raise it when the reading or framing of media changes.
FORMAT = "ddrl-cache/1"

_OLD = 3600.0  # seconds after which a file that was being written is a killed run's


@dataclass(frozen=True)
class MediaEncoder:
    """What makes latents, and what they depend on.

    Attributes:
        encode: pixels in [0, 1], float32, shape (1, 3, H, W) or (1, T, 3, H, W), to latents,
            shape (1, ...). The same for the same pixels: no sampling of a posterior.
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
        dtype: that embeddings are stored in; masks and ids keep theirs.
        batch_size: texts that are encoded at once.
    """

    encode: Callable[[Sequence[str]], dict[str, Tensor]]
    fingerprint: str
    dtype: torch.dtype = torch.bfloat16
    batch_size: int = 16


@dataclass(frozen=True)
class EncodedSample:
    """A sample that is in the cache.

    Attributes:
        id: the sample's identity.
        name: the sample's path relative to the data set.
        caption: its caption.
        bucket: its size.
        media_key: for :meth:`EncodedCache.media`.
        text_key: for :meth:`EncodedCache.text`.
    """

    id: int
    name: str
    caption: str
    bucket: Bucket
    media_key: str
    text_key: str


@dataclass(frozen=True)
class EncodeReport:
    """What an encoding did, and where everything is.

    Attributes:
        samples: what is usable, in the order it was given.
        text_keys: by text: the captions, and the extra texts.
        problems: what was skipped, and notes.
        media_encoded: latents made now.
        media_reused: latents that were there.
        texts_encoded: embeddings made now.
        texts_reused: embeddings that were there.
    """

    samples: tuple[EncodedSample, ...]
    text_keys: Mapping[str, str]
    problems: tuple[Problem, ...]
    media_encoded: int
    media_reused: int
    texts_encoded: int
    texts_reused: int

    def lines(self) -> list[str]:
        """The report for a terminal."""
        broken = [problem for problem in self.problems if not problem.is_note]
        return [
            f"media   {self.media_encoded} encoded, {self.media_reused} reused",
            f"texts   {self.texts_encoded} encoded, {self.texts_reused} reused",
            f"skipped {len(broken)}",
            *(f"  {problem}" for problem in broken),
        ]


class EncodedCache:
    """A folder of latents and text embeddings.

    Args:
        folder: made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def encode(
        self,
        samples: Sequence[Sample],
        *,
        media: MediaEncoder,
        text: TextEncoder,
        framing: Framing,
        on_broken: OnBroken = "skip",
        extra_texts: Sequence[str] = ("",),
        progress: Callable[[str, int, int], None] | None = None,
    ) -> EncodeReport:
        """Encode what is not there yet, and write ``index.json``.

        Args:
            samples: of :func:`ddrl.data.files.usable`.
            media: makes latents.
            text: makes embeddings.
            framing: buckets and frame rate.
            on_broken: what becomes of a file that can't be read; to stop is to stop at the first.
            extra_texts: encoded beside the captions; the empty text is for guidance and dropout.
            progress: called with what is done, how many of it, and of how many.

        Raises:
            DataError: a file is broken and the policy is to stop, none is usable, an encoder
                returns what can't be stored, or the cache can't be written.
        """
        return self._pass(samples, media, text, framing, on_broken, extra_texts, progress)

    def lookup(
        self,
        samples: Sequence[Sample],
        *,
        media_fingerprint: str,
        text_fingerprint: str,
        framing: Framing,
        media_dtype: torch.dtype = torch.bfloat16,
        text_dtype: torch.dtype = torch.bfloat16,
        on_broken: OnBroken = "skip",
        extra_texts: Sequence[str] = ("",),
    ) -> EncodeReport:
        """Find what :meth:`encode` has made, without any encoder.

        Raises:
            DataError: something is missing or stale; names the first.
        """

        def no_media(_: Tensor) -> Tensor:
            raise _missing(self.folder)

        def no_text(texts: Sequence[str]) -> dict[str, Tensor]:
            raise _missing(self.folder, f"the text {texts[0]!r:.60}")

        media = MediaEncoder(no_media, media_fingerprint, media_dtype)
        text = TextEncoder(no_text, text_fingerprint, text_dtype)
        return self._pass(samples, media, text, framing, on_broken, extra_texts, None, write=False)
