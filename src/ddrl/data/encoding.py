"""Encodes a data set into a cache, and finds it there again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddrl.data.cache import EncodedCache, media_key, text_key
from ddrl.data.encoders import MediaEncoder, TextEncoder, as_stored
from ddrl.data.framing import Bucket, Framing, fit
from ddrl.data.images import read_image
from ddrl.data.locators import content_hash
from ddrl.data.media import Facts, frame_media, probe, to_unit
from ddrl.data.problems import NUM_NAMED, BrokenFileError, OnBroken, Problem, printable, settle
from ddrl.data.samples import Sample
from ddrl.errors import DataError

__all__ = ["EncodeReport", "EncodedSample", "encode", "lookup"]

Progress = Callable[[str, int, int], None]
"""(``media`` or ``texts``, done, of how many)."""


@dataclass(frozen=True)
class EncodedSample:
    """A sample that is in the cache.

    Attributes:
        id: the sample's identity.
        name: the sample's path relative to the data set.
        caption: its caption.
        bucket: its size.
        media_key: for :meth:`~ddrl.data.cache.EncodedCache.media`.
        text_key: for :meth:`~ddrl.data.cache.EncodedCache.text`.
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
        problems: what was skipped.
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
        return [
            f"media    {self.media_encoded} encoded, {self.media_reused} reused",
            f"texts    {self.texts_encoded} encoded, {self.texts_reused} reused",
            f"skipped  {len(self.problems)}",
            *(f"  {problem}" for problem in self.problems),
        ]


@dataclass
class _Pass:
    """One pass over the samples: encodes what is missing, or lists it where there is no encoder."""

    cache: EncodedCache
    media: MediaEncoder
    text: TextEncoder
    framing: Framing
    progress: Progress | None
    missing: list[str] = field(default_factory=list)
    num_media: int = 0
    num_texts: int = 0

    def step(self, what: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(what, done, total)

    def sample(self, sample: Sample) -> tuple[Bucket, str]:
        """The bucket and media key of a sample, whose latents are in the cache afterwards."""
        facts = probe(sample.media, max_pixels=self.framing.max_pixels)
        bucket = facts.bucket(sample.name, self.framing)
        frame = sample.first_frame if self.framing.first_frame else None
        key = media_key(
            content_hash(sample.media),
            first_frame=None if frame is None else content_hash(frame),
            bucket=bucket,
            framing=self.framing,
            fingerprint=self.media.fingerprint,
            dtype=self.media.dtype,
        )
        if not self.cache.has("media", key):
            if self.media.encode is None:
                self.missing.append(sample.shown)
            else:
                self.cache.write("media", key, self._latents(sample, facts, self.media.encode))
            self.num_media += 1
        return bucket, key

    def _latents(
        self, sample: Sample, facts: Facts, encode_media: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        framed = frame_media(sample.media, self.framing, facts=facts)
        tensors = {}
        if self.framing.first_frame:
            first = framed.pixels[0] if framed.pixels.ndim == 4 else framed.pixels
            if sample.first_frame is not None:
                limit = self.framing.max_pixels
                first = fit(read_image(sample.first_frame, max_pixels=limit), framed.bucket)
            tensors["first_frame"] = first
        with torch.no_grad():
            latents = encode_media(to_unit(framed.pixels)[None])
        if latents.ndim < 2 or len(latents) != 1:
            raise DataError(
                f"The media encoder returned shape {tuple(latents.shape)} for one sample, "
                f"{sample.shown}; (1, ...) was expected."
            )
        tensors["latents"] = as_stored(latents[0], self.media.dtype, sample.shown)
        return tensors

    def texts(self, texts: Sequence[str]) -> dict[str, str]:
        """The key of every text, whose embeddings are in the cache afterwards."""
        fingerprint, dtype = self.text.fingerprint, self.text.dtype
        keys = {text: text_key(text, fingerprint=fingerprint, dtype=dtype) for text in texts}
        absent = [text for text, key in keys.items() if not self.cache.has("text", key)]
        self.num_texts = len(absent)
        if self.text.encode is None:
            self.missing += [f"the text {text!r:.60}" for text in absent]
            return keys
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


def encode(
    samples: Sequence[Sample],
    cache: EncodedCache,
    *,
    media: MediaEncoder,
    text: TextEncoder,
    framing: Framing,
    on_broken: OnBroken = "skip",
    extra_texts: Sequence[str] = ("",),
    progress: Progress | None = None,
) -> EncodeReport:
    """Encode what is not in the cache yet, and write its index.

    Every file is read and hashed each time: a file that changed is seen even if its date did not.

    Args:
        samples: of :func:`ddrl.data.files.usable`.
        cache: where it goes.
        media: makes latents.
        text: makes embeddings.
        framing: buckets and frame rate.
        on_broken: what becomes of a file that can't be read; to stop is to stop at the first.
        extra_texts: encoded beside the captions; the empty text is for guidance and dropout.
        progress: called as work is done.

    Raises:
        DataError: a file is broken and the policy is to stop, none is usable, an encoder returns
            what can't be stored, or the cache can't be written.
    """
    cache.sweep()
    work = _Pass(cache, media, text, framing, progress)
    report = _run(work, samples, on_broken, extra_texts)
    cache.write_index(
        {
            "media": {"fingerprint": media.fingerprint, "dtype": str(media.dtype)},
            "text": {"fingerprint": text.fingerprint, "dtype": str(text.dtype)},
            "framing": dataclasses.asdict(framing),
            "samples": [
                {**dataclasses.asdict(one), "name": printable(one.name)} for one in report.samples
            ],
            "texts": dict(report.text_keys),
            "skipped": [dataclasses.asdict(problem) for problem in report.problems],
        }
    )
    return report


def lookup(
    samples: Sequence[Sample],
    cache: EncodedCache,
    *,
    media: MediaEncoder,
    text: TextEncoder,
    framing: Framing,
    on_broken: OnBroken = "skip",
    extra_texts: Sequence[str] = ("",),
) -> EncodeReport:
    """Find what :func:`encode` has made, without an encoder: theirs are not called.

    Raises:
        DataError: something is missing, or only there for another model or framing; a file is
            broken and the policy is to stop.
    """
    media, text = dataclasses.replace(media, encode=None), dataclasses.replace(text, encode=None)
    work = _Pass(cache, media, text, framing, None)
    report = _run(work, samples, on_broken, extra_texts)
    if work.missing:
        named = ", ".join(work.missing[:NUM_NAMED])
        more = len(work.missing) - NUM_NAMED
        raise DataError(
            f"The cache {cache.folder} lacks {len(work.missing)} of what this run needs: "
            f"{named}{f' and {more} more' if more > 0 else ''}.",
            hint="run `ddrl data encode`; another model, size, dtype or file needs it anew",
        )
    return report


def _run(
    work: _Pass, samples: Sequence[Sample], on_broken: OnBroken, extra_texts: Sequence[str]
) -> EncodeReport:
    placed: list[tuple[Sample, Bucket, str]] = []
    problems: list[Problem] = []
    for done, sample in enumerate(samples, 1):
        try:
            placed.append((sample, *work.sample(sample)))
        except BrokenFileError as error:
            problem = dataclasses.replace(error.problem, path=sample.shown)
            settle([problem], on_broken=on_broken, where="The data set")
            problems.append(problem)
        work.step("media", done, len(samples))
    if not placed:
        first = f", the first is {problems[0]}" if problems else ""
        raise DataError(f"None of {len(samples)} samples can be used{first}.")
    captions = [sample.caption for sample, _, _ in placed]
    keys = work.texts(list(dict.fromkeys([*captions, *extra_texts])))
    return EncodeReport(
        samples=tuple(
            EncodedSample(sample.id, sample.name, sample.caption, bucket, key, keys[sample.caption])
            for sample, bucket, key in placed
        ),
        text_keys=keys,
        problems=tuple(problems),
        media_encoded=work.num_media,
        media_reused=len(placed) - work.num_media,
        texts_encoded=work.num_texts,
        texts_reused=len(keys) - work.num_texts,
    )
