"""Encodes a data set into a cache, and finds it there again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ddrl.data.encoded.filling import Filler, Placed
from ddrl.data.media.framing import Bucket
from ddrl.data.problems import BrokenFileError, OnBroken, Problem, settle
from ddrl.data.samples import Sample
from ddrl.errors import DataError, printable


@dataclass(frozen=True)
class EncodedSample:
    """A sample that is in the cache.

    Attributes:
        id: the sample's identity.
        name: the sample's path relative to the data set.
        caption: its caption.
        bucket: its size.
        media_key: for :meth:`~ddrl.data.encoded.cache.EncodedCache.media`.
        text_key: for :meth:`~ddrl.data.encoded.cache.EncodedCache.text`.
        given_key: for :meth:`~ddrl.data.encoded.cache.EncodedCache.given`; empty where no frames
            are given.
        given_content: hash of the given frames' pixels; empty where none are given.
        metadata: what a list says of its caption.
        content: hash of the media file.
    """

    id: int
    name: str
    caption: str
    bucket: Bucket
    media_key: str
    text_key: str
    given_key: str = ""
    given_content: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    content: str = ""


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
        given_encoded: features of given frames made now.
        given_reused: features of given frames that were there.
        notes: what is worth knowing of the texts and sizes.
        sizes: by size, how many samples it has, where there are several sizes.
    """

    samples: tuple[EncodedSample, ...]
    text_keys: Mapping[str, str]
    problems: tuple[Problem, ...]
    media_encoded: int
    media_reused: int
    texts_encoded: int
    texts_reused: int
    given_encoded: int = 0
    given_reused: int = 0
    notes: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return the report for a terminal."""
        given = f"given    {self.given_encoded} encoded, {self.given_reused} reused"
        sizes = ", ".join(f"{size}: {count}" for size, count in self.sizes.items())
        return [
            f"media    {self.media_encoded} encoded, {self.media_reused} reused",
            *([given] if self.given_encoded or self.given_reused else []),
            f"texts    {self.texts_encoded} encoded, {self.texts_reused} reused",
            *([f"sizes    {sizes}"] if sizes else []),
            *(f"note     {note}" for note in self.notes),
            f"skipped  {len(self.problems)}",
            *(f"  {problem}" for problem in self.problems),
        ]


def encode(
    samples: Sequence[Sample],
    work: Filler,
    *,
    on_broken: OnBroken = "skip",
    extra_texts: Sequence[str] = ("",),
) -> EncodeReport:
    """Encode what is not in the cache yet, and write its index.

    Every file is read and hashed each time: a file that changed is seen even if its date did not.

    Args:
        samples: of :func:`ddrl.data.layouts.files.usable`.
        work: the encoders, the framing, and the cache that is filled.
        on_broken: what becomes of a file that can't be read; to stop is to stop at the first.
        extra_texts: texts to encode with the captions; the empty text is for guidance and dropout.

    Raises:
        DataError: a file is broken and the policy is to stop, none is usable, an encoder returns
            what can't be stored, or the cache can't be written.
    """
    work.cache.sweep()
    report = _run(work, samples, on_broken, extra_texts)
    media, text = work.media, work.text
    work.cache.write_index(
        {
            "media": {"fingerprint": media.fingerprint, "dtype": str(media.dtype)},
            "text": {"fingerprint": text.fingerprint, "dtype": str(text.dtype)},
            "framing": dataclasses.asdict(work.framing),
            "samples": [
                {**dataclasses.asdict(one), "name": printable(one.name)} for one in report.samples
            ],
            "texts": dict(report.text_keys),
            "skipped": [dataclasses.asdict(problem) for problem in report.problems],
        }
    )
    return report


def _run(
    work: Filler, samples: Sequence[Sample], on_broken: OnBroken, extra_texts: Sequence[str]
) -> EncodeReport:
    placed: list[tuple[Sample, Placed]] = []
    problems: list[Problem] = []
    for done, sample in enumerate(samples, 1):
        try:
            placed.append((sample, work.sample(sample)))
        except BrokenFileError as error:
            problem = dataclasses.replace(error.problem, path=sample.shown)
            settle([problem], on_broken=on_broken, where="The data set")
            problems.append(problem)
        work.step("media", done, len(samples))
    if not placed:
        first = f", the first is {problems[0]}" if problems else ""
        raise DataError(
            f"None of {len(samples)} samples can be used{first}.",
            hint="`ddrl data check` says what is wrong with each",
        )
    captions = [sample.caption for sample, _ in placed]
    keys = work.texts(list(dict.fromkeys([*captions, *extra_texts])))
    num_media, num_given = (sum(what in p.made for _, p in placed) for what in ("media", "given"))
    return EncodeReport(
        samples=tuple(
            EncodedSample(
                sample.id,
                sample.name,
                sample.caption,
                place.bucket,
                place.media_key,
                keys[sample.caption],
                place.given_key,
                place.given_content,
                sample.metadata,
                place.content,
            )
            for sample, place in placed
        ),
        text_keys=keys,
        problems=tuple(problems),
        media_encoded=num_media,
        media_reused=len(placed) - num_media,
        texts_encoded=work.num_texts,
        texts_reused=len(keys) - work.num_texts,
        given_encoded=num_given,
        given_reused=0 if work.given is None else len(placed) - num_given,
    )
