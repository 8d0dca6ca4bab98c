"""One pass over samples that puts into the cache what is not there yet."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.data.encoded.cache import EncodedCache, given_key, media_key, text_key
from ddrl.data.encoded.encoders import GivenEncoder, MediaEncoder, TextEncoder, as_stored
from ddrl.data.locators import Locator, content_hash
from ddrl.data.media.framing import Bucket, Framing, fit
from ddrl.data.media.images import read_image
from ddrl.data.media.reading import Facts, frame_media, probe, recall, to_unit
from ddrl.data.problems import BrokenFileError
from ddrl.data.samples import Sample
from ddrl.errors import DataError

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""(``media`` or ``texts``, done, of how many)."""


@dataclass(frozen=True)
class Placed:
    """Where a sample is in the cache.

    Attributes:
        bucket: its size.
        media_key: of its latents.
        given_key: of the features of its given frames; empty where none are given.
        given_content: hash of these frames' pixels; empty where none are given.
        content: hash of the media file.
        made: what was not there: ``media``, ``given``.
    """

    bucket: Bucket
    media_key: str
    given_key: str = ""
    given_content: str = ""
    content: str = ""
    made: frozenset[str] = frozenset()


@dataclass
class Filler:
    """Encodes what is missing.

    Attributes:
        cache: what is filled.
        media: makes latents.
        text: makes embeddings.
        framing: buckets and frame rate.
        given: makes features of given frames; None where none are given.
        progress: called as work is done.
        num_texts: texts that were not there.
    """

    cache: EncodedCache
    media: MediaEncoder
    text: TextEncoder
    framing: Framing
    given: GivenEncoder | None = None
    progress: Progress | None = None
    num_texts: int = 0

    def step(self, what: str, done: int, total: int) -> None:
        """Tell of progress, if anybody listens."""
        if self.progress is not None:
            self.progress(what, done, total)

    def sample(self, sample: Sample) -> Placed:
        """Have a sample's latents, and the features of its given frames, in the cache.

        Raises:
            BrokenFileError: a file of it can't be read, or fits no bucket.
            DataError: an encoder returns what can't be stored, or the cache can't be written.
        """
        content = content_hash(sample.media)
        facts = self._facts(sample, content)
        bucket = facts.bucket(sample.name, self.framing)

        @functools.cache
        def pixels() -> Tensor:  # decoded at most once, and not at all if everything is there
            return frame_media(sample.media, self.framing, facts=facts).pixels

        made: set[str] = set()
        key = self._media(sample, bucket, content, pixels, made)
        if self.given is None:
            return Placed(bucket, key, content=content, made=frozenset(made))
        given, seen = self._given(sample, self.given, bucket, content, pixels, made)
        return Placed(bucket, key, given, seen, content, frozenset(made))

    def _facts(self, sample: Sample, content: str) -> Facts:
        """Return what a sample's file is; a video is decoded for that once, and then remembered."""
        max_pixels = self.framing.max_pixels
        known = self.cache.facts(content)
        if known is not None:
            with contextlib.suppress(KeyError, TypeError, ValueError):  # it was tampered with
                return recall(sample.media, known, max_pixels=max_pixels)
        facts = probe(sample.media, max_pixels=max_pixels)
        for note in facts.notes:
            logger.info("%s", note)
        if facts.timeline is not None:
            self.cache.write_facts(content, facts.as_json())
        return facts

    def _media(
        self,
        sample: Sample,
        bucket: Bucket,
        content: str,
        pixels: Callable[[], Tensor],
        made: set[str],
    ) -> str:
        """Return the key of a sample's latents."""
        key = media_key(
            content,
            bucket=bucket,
            framing=self.framing,
            fingerprint=self.media.fingerprint,
            dtype=self.media.dtype,
        )
        if self.cache.has("media", key):
            return key
        made.add("media")
        with torch.no_grad():
            latents = self.media.encode(to_unit(pixels())[None])
        if latents.ndim < 2 or len(latents) != 1:
            raise DataError(
                f"The media encoder returned shape {tuple(latents.shape)} for one sample, "
                f"{sample.shown}; (1, ...) was expected."
            )
        stored = as_stored(latents[0], self.media.dtype, sample.shown)
        self.cache.write("media", key, {"latents": stored})
        return key

    def _given(
        self,
        sample: Sample,
        given: GivenEncoder,
        bucket: Bucket,
        content: str,
        pixels: Callable[[], Tensor],
        made: set[str],
    ) -> tuple[str, str]:
        """Return the key of the features of a sample's given frames, and the hash of their pixels.

        They are the clip's own first frames; or the image that the data names, where one is given.
        A source image is always named: it is scaled and cropped to the size of the result.
        """
        image = sample.given if given.num_frames == 1 else None
        if image is None and given.is_source:
            raise BrokenFileError(sample.name, "missing_source", "has no source image")
        key = given_key(
            content if image is None else content_hash(image),
            num_frames=given.num_frames,
            bucket=bucket,
            framing=self.framing if image is None else None,
            fingerprint=given.fingerprint,
            dtype=given.dtype,
            caption=sample.caption if given.reads_text else None,
        )
        if self.cache.has("given", key):
            return key, self.cache.note("given", key)
        made.add("given")
        if image is not None:
            frames = self._image(sample, image, bucket, given.name)
        else:
            clip = pixels()
            frames = (clip if clip.ndim == 4 else clip[None])[: given.num_frames]
        if len(frames) < given.num_frames:
            message = f"has {len(frames)} frames, of which {given.num_frames} are to be given"
            raise BrokenFileError(sample.name, "too_short", message)
        with torch.no_grad():
            features = given.encode(to_unit(frames)[None], bucket.frames, sample.caption)
        named = f"the given frames of {sample.shown}"
        rows = {name: as_stored(t[0], given.dtype, named) for name, t in features.items()}
        seen = hashlib.sha256(frames.contiguous().numpy().tobytes()).hexdigest()
        self.cache.write("given", key, rows, note=seen)
        return key, seen

    def _image(self, sample: Sample, image: Locator, bucket: Bucket, what: str) -> Tensor:
        """Return the pixels of the image that is given with a sample, shape (1, 3, H, W)."""
        try:
            return fit(read_image(image, max_pixels=self.framing.max_pixels), bucket)[None]
        except BrokenFileError as error:
            message = f"its {what} {error.problem.message}"
            raise BrokenFileError(sample.name, error.problem.kind, message) from error

    def texts(self, texts: Sequence[str]) -> dict[str, str]:
        """Return the key of every text, whose embeddings are in the cache afterwards.

        Raises:
            DataError: the encoder returns what can't be stored, or the cache can't be written.
        """
        fingerprint, dtype = self.text.fingerprint, self.text.dtype
        keys = {text: text_key(text, fingerprint=fingerprint, dtype=dtype) for text in texts}
        absent = [text for text, key in keys.items() if not self.cache.has("text", key)]
        self.num_texts = len(absent)
        for start in range(0, len(absent), self.text.batch_size):
            batch = absent[start : start + self.text.batch_size]
            with torch.no_grad():
                tensors = self.text.encode(batch)
            wrong = [name for name, tensor in tensors.items() if len(tensor) != len(batch)]
            if wrong or not tensors:
                what = f"a {wrong[0]} that is not one row for each" if wrong else "nothing"
                raise DataError(f"The text encoder returned {what} for {len(batch)} texts.")
            for row, text in enumerate(batch):
                named = f"the text {text!r:.60}"
                rows = {name: as_stored(t[row], dtype, named) for name, t in tensors.items()}
                self.cache.write("text", keys[text], rows)
            self.step("texts", start + len(batch), len(absent))
        return keys
