"""Reads a whole data set and says what is in it, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ddrl.data.layouts.bounds import Outside
from ddrl.data.layouts.columns import Columns
from ddrl.data.layouts.files import Layout, find_samples
from ddrl.data.media.framing import DEFAULT_MAX_PIXELS, Framing, num_available
from ddrl.data.media.images import read_picture
from ddrl.data.media.reading import Facts, probe
from ddrl.data.media.videos import check_length
from ddrl.data.problems import BrokenFileError, Problem, ProblemKind
from ddrl.data.samples import Sample
from ddrl.data.splits import AUTO

FORMAT = "ddrl-data-check/1"
NUM_SIZES = 8  # the most frequent sizes that the terminal shows


@dataclass(frozen=True)
class Spread:
    """Smallest, middle and largest of some numbers."""

    smallest: float
    median: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """Return the spread; None where there are no values."""
        if not values:
            return None
        return cls(min(values), statistics.median(values), max(values))

    def __str__(self) -> str:
        numbers = [f"{value:.4g}" for value in (self.smallest, self.median, self.largest)]
        return f"{numbers[0]} to {numbers[2]}, median {numbers[1]}"


@dataclass(frozen=True)
class DataReport:
    """What a data set holds; only usable samples are counted, but for the problems.

    Attributes:
        root: the data set.
        num_images: usable images.
        num_videos: usable clips.
        num_captions: distinct captions.
        caption_chars: length of the captions, in characters.
        seconds: length of the clips.
        fps: frame rate of the clips, frames per second.
        sizes: how many have each size, "width x height".
        buckets: how many go to each bucket, if there are any; 0 where none does.
        problems: everything broken, and notes.
        text_notes: what is worth knowing of the captions.
    """

    root: Path
    num_images: int
    num_videos: int
    num_captions: int
    caption_chars: Spread | None
    seconds: Spread | None
    fps: Spread | None
    sizes: dict[str, int]
    buckets: dict[str, int]
    problems: tuple[Problem, ...]
    text_notes: tuple[str, ...] = ()

    @property
    def num_samples(self) -> int:
        """Usable images and clips."""
        return self.num_images + self.num_videos

    @property
    def broken(self) -> tuple[Problem, ...]:
        """The problems that cost a sample, or hint at a mistake; not the notes."""
        return tuple(problem for problem in self.problems if not problem.is_note)

    @property
    def broken_by_kind(self) -> dict[ProblemKind, int]:
        """How many there are of each kind."""
        return dict(sorted(Counter(problem.kind for problem in self.broken).items()))

    def lines(self) -> list[str]:
        """Return the report for a terminal."""
        rows = [
            ("samples", f"{self.num_samples}: {self.num_images} images, {self.num_videos} videos"),
            ("captions", f"{self.num_captions} distinct"),
            ("  characters", self.caption_chars),
            ("seconds", self.seconds),
            ("fps", self.fps),
            ("sizes", _most_frequent(self.sizes)),
            ("buckets", _most_frequent(self.buckets)),
        ]
        unused = ", ".join(size for size, count in self.buckets.items() if not count)
        rows += [("  unused", f"no sample has the size {unused}")] if unused else []
        rows += [("  tokens", note) for note in self.text_notes]
        lines = [f"{name:<13} {value}" for name, value in rows if value]
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.broken_by_kind.items())
        lines.append(f"{'broken':<13} {len(self.broken)}{f': {kinds}' if kinds else ''}")
        lines += [f"  {problem}" for problem in self.broken]
        notes = [problem for problem in self.problems if problem.is_note]
        if notes:
            lines += [f"{'notes':<13} {len(notes)}", *(f"  {problem}" for problem in notes)]
        return lines

    def as_json(self) -> dict[str, object]:
        """Return the report as JSON; ``format`` names its version."""
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in {"root", "problems"}
        }
        for name, value in values.items():
            if isinstance(value, Spread):
                values[name] = dataclasses.asdict(value)
        return {
            "format": FORMAT,
            "path": str(self.root),
            "num_samples": self.num_samples,
            **values,
            "num_broken": len(self.broken),
            "broken_by_kind": self.broken_by_kind,
            "problems": [
                {**dataclasses.asdict(problem), "note": problem.is_note}
                for problem in self.problems
            ],
        }


@dataclass
class _Tally:
    """What has been seen so far."""

    captions: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    fps: list[float] = field(default_factory=list)
    sizes: Counter[str] = field(default_factory=Counter)
    buckets: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    num_images: int = 0


def check(
    path: Path,
    *,
    layout: Layout = "auto",
    framing: Framing | None = None,
    fps: float | None = None,
    num_frames: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    outside: Outside = "refuse",
    split: str = AUTO,
    columns: Columns | None = None,
    progress: Callable[[int, int], None] | None = None,
    read: Callable[[Sequence[str]], Sequence[str]] | None = None,
) -> DataReport:
    """Decode every file of a data set; nothing stops it but a data set that is not there.

    Args:
        path: the data set.
        layout: how it is laid out.
        framing: buckets that the samples must fit; its fps and limit count, not those below.
        fps: rate at which clips will be sampled.
        num_frames: how many frames clips must have at that rate.
        max_pixels: images and frames with more are refused.
        outside: what becomes of files that links or paths find outside of the data set.
        split: which of its splits are read.
        columns: of captions and media, where they have no usual names.
        progress: called with how many samples are done, and of how many.
        read: what a model's text encoders say of the distinct captions, as notes.

    Raises:
        DataError: there is no such path, or its layout can't be told.
    """
    columns = columns or Columns()
    found = find_samples(path, layout=layout, outside=outside, split=split, columns=columns)
    tally = _Tally(problems=list(found.problems))
    fps, max_pixels = (framing.fps, framing.max_pixels) if framing else (fps, max_pixels)
    for done, sample in enumerate(found.samples, 1):
        try:
            facts, notes = _examine(sample, columns.given_name, max_pixels=max_pixels)
            if facts.timeline is not None:
                needed = None if framing else num_frames
                check_length(sample.name, facts.timeline, fps=fps, num_frames=needed)
            bucket = str(facts.bucket(sample.name, framing)) if framing else ""
        except BrokenFileError as error:
            tally.problems.append(dataclasses.replace(error.problem, path=sample.shown))
        else:
            _count(tally, sample, facts, notes, bucket, fps)
        if progress is not None:
            progress(done, len(found.samples))
    return _report(path, tally, read, framing)


def _report(
    path: Path,
    tally: _Tally,
    read: Callable[[Sequence[str]], Sequence[str]] | None,
    framing: Framing | None,
) -> DataReport:
    captions = list(dict.fromkeys(tally.captions))
    return DataReport(
        root=path,
        num_images=tally.num_images,
        num_videos=len(tally.seconds),
        num_captions=len(captions),
        caption_chars=Spread.of([len(caption) for caption in tally.captions]),
        seconds=Spread.of(tally.seconds),
        fps=Spread.of(tally.fps),
        sizes=dict(tally.sizes.most_common()),
        buckets=_every_bucket(tally.buckets, framing),
        text_notes=tuple(read(captions) if read else ()),
        problems=tuple(sorted(tally.problems, key=lambda problem: (problem.path, problem.kind))),
    )


def _examine(sample: Sample, given_name: str, *, max_pixels: int) -> tuple[Facts, list[Problem]]:
    """Decode all of a sample, and the image given with it; what is worth knowing of them."""
    facts = probe(sample.media, max_pixels=max_pixels)  # which decodes all of a video
    if facts.timeline is None:
        notes = [*read_picture(sample.media, max_pixels=max_pixels).notes]
    else:
        notes = [*facts.notes]
    if sample.given is not None:
        try:
            given = read_picture(sample.given, max_pixels=max_pixels)
        except BrokenFileError as error:
            problem = error.problem
            message = f"its {given_name} {problem.message}"
            raise BrokenFileError(sample.name, problem.kind, message) from error
        notes += [
            dataclasses.replace(note, message=f"its {given_name} {note.message}")
            for note in given.notes
        ]
    return facts, notes


def _count(
    tally: _Tally,
    sample: Sample,
    facts: Facts,
    notes: Sequence[Problem],
    bucket: str,
    fps: float | None,
) -> None:
    tally.problems += [dataclasses.replace(note, path=sample.shown) for note in notes]
    tally.captions.append(sample.caption)
    tally.sizes[f"{facts.width}x{facts.height}"] += 1
    if bucket:
        tally.buckets[bucket] += 1
    if facts.misnamed:
        message = f"is read as what it is: {facts.media_format}, whatever its name says"
        tally.problems.append(Problem(sample.shown, "other_format", message))
    if facts.timeline is None:
        tally.num_images += 1
        return
    tally.seconds.append(facts.timeline.seconds)
    tally.fps.append(facts.timeline.fps)
    own = len(facts.timeline.times)
    if num_available(facts.timeline.times, fps) > own:
        message = f"has {facts.timeline.fps:.4g} fps: at {fps:g} fps some frames are repeated"
        tally.problems.append(Problem(sample.shown, "repeated_frames", message))


def _every_bucket(counts: Counter[str], framing: Framing | None) -> dict[str, int]:
    """Return how many each bucket has, the most first; those that nothing goes to last."""
    empty = [] if framing is None else [str(one) for one in framing.buckets]
    return {**dict(counts.most_common()), **{name: 0 for name in empty if not counts[name]}}


def _most_frequent(counts: dict[str, int]) -> str:
    shown = [f"{count} of {size}" for size, count in list(counts.items())[:NUM_SIZES]]
    more = len(counts) - len(shown)
    return "; ".join(shown) + (f"; and {more} more sizes" if more > 0 else "")
