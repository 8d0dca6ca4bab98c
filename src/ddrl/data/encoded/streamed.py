"""Encodes a data set that is read once, as a stream: latents are kept, and media are not.

What is known of the rows is written in segments, each with the place in the stream where it ends,
so that a killed run goes on from there; a segment always holds the same, so that two processes may
share the folder. Media of held-out samples, which samples are compared with, are kept with them.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ddrl.data.encoded.cache import EncodedCache, write_cached
from ddrl.data.encoded.encoding import EncodedSample, EncodeReport
from ddrl.data.encoded.filling import Filler
from ddrl.data.locators import FileLocator, Locator, content_hash
from ddrl.data.media.framing import Bucket
from ddrl.data.problems import BrokenFileError, OnBroken, Problem, settle
from ddrl.data.samples import Sample
from ddrl.disk import read_json
from ddrl.errors import DataError

SEGMENT = 256
"""Rows between two places where a killed run may go on."""

logger = logging.getLogger(__name__)


class RowStream(Protocol):
    """A data set in an order that never changes."""

    notes: list[Problem]
    """What is worth knowing of it, after the rows have begun."""

    def rows(self, state: Mapping[str, Any] | None = None) -> Iterator[Sample | Problem]:
        """Return the rows from a place on, each as a sample or as what is wrong with it."""

    def state(self) -> dict[str, Any]:
        """Return the place after the last row, as JSON."""


@dataclass
class Streamed:
    """A stream that is encoded.

    Attributes:
        report: what was made, and where it is.
        stream: it, to be read again.
        folder: where its media are kept.
    """

    report: EncodeReport
    stream: RowStream
    folder: Path

    def media(self, samples: Sequence[EncodedSample]) -> list[Locator]:
        """Return the media of some samples; what was not kept is read again.

        Raises:
            DataError: the stream can't be read, or has other media now.
        """
        paths = [_kept(self.folder, sample.content) for sample in samples]
        missing = {
            sample.name: sample.content
            for sample, path in zip(samples, paths, strict=True)
            if not path.is_file()
        }
        if missing:
            logger.info("reading %d held-out samples again, to keep their media", len(missing))
            for row in self.stream.rows():
                if isinstance(row, Sample) and row.name in missing:
                    content = missing.pop(row.name)
                    if content_hash(row.media) != content:
                        raise DataError(
                            f"{row.shown} is another than when it was encoded.",
                            hint="set another run.cache, or pin data.path to a commit",
                        )
                    _keep(self.folder, content, row.media)
                if not missing:
                    break
        return [FileLocator(path) for path in paths]


@dataclass
class _Rows:
    """What is known of the rows of a stream so far.

    Attributes:
        samples: what is encoded; their texts may not be yet.
        problems: what was left out, and notes.
        state: the place after them.
        is_whole: whether there are no more.
        num_segments: in which they are written.
        num_new: media that were encoded by this process.
    """

    samples: list[EncodedSample] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    state: dict[str, Any] | None = None
    is_whole: bool = False
    num_segments: int = 0
    num_new: int = 0
    num_new_given: int = 0


def encode_stream(
    stream: RowStream,
    folder: Path,
    work: Filler,
    *,
    is_kept: Callable[[int], bool],
    on_broken: OnBroken = "skip",
    extra_texts: Sequence[str] = ("",),
) -> Streamed:
    """Encode the rows that are not encoded yet, and find the others.

    Args:
        stream: the data set. It is not opened if all its rows are known.
        folder: of this very stream, encoded by these encoders in this framing: what is known of
            its rows is taken as it is.
        work: encoders, framing and cache.
        is_kept: whether the media of a sample of this identity are kept.
        on_broken: what becomes of a row that can't be used; to stop is to stop at the first.
        extra_texts: texts to encode with the captions.

    Raises:
        DataError: a row is broken and the policy is to stop, none is usable, the stream can't be
            read, or the cache can't be written.
    """
    work.cache.sweep()
    known = _read(folder, work.cache)
    settle(known.problems, on_broken=on_broken, where="The data set")
    if not known.is_whole:
        _go_on(stream, folder, work, known, is_kept, on_broken)
    if not known.samples:
        broken = [problem for problem in known.problems if not problem.is_note]
        first = f", the first is {broken[0]}" if broken else ""
        raise DataError(
            f"None of {len(broken)} rows can be used{first}.",
            hint="name the columns with data.caption_column and data.media_column",
        )
    captions = [sample.caption for sample in known.samples]
    keys = work.texts(list(dict.fromkeys([*captions, *extra_texts])))
    total, has_given = len(known.samples), work.given is not None
    report = EncodeReport(
        samples=tuple(dataclasses.replace(s, text_key=keys[s.caption]) for s in known.samples),
        text_keys=keys,
        problems=tuple(problem for problem in known.problems if not problem.is_note),
        media_encoded=known.num_new,
        media_reused=total - known.num_new,
        texts_encoded=work.num_texts,
        texts_reused=len(keys) - work.num_texts,
        given_encoded=known.num_new_given,
        given_reused=total - known.num_new_given if has_given else 0,
    )
    return Streamed(report, stream, folder)


def _go_on(
    stream: RowStream,
    folder: Path,
    work: Filler,
    known: _Rows,
    is_kept: Callable[[int], bool],
    on_broken: OnBroken,
) -> None:
    """Encode the rows that come after what is known, a segment at a time."""
    if known.state is not None:
        logger.info("going on after %d samples", len(known.samples))
    start = len(known.samples), len(known.problems)
    is_first = known.num_segments == 0
    for count, row in enumerate(stream.rows(known.state), 1):
        if is_first:
            settle(stream.notes, on_broken=on_broken, where="The data set")
            known.problems += stream.notes
            is_first = False
        try:
            if isinstance(row, Problem):
                raise BrokenFileError(row.path, row.kind, row.message)
            known.samples.append(_encode(row, folder, work, known, is_kept))
        except BrokenFileError as error:
            shown = row.path if isinstance(row, Problem) else row.shown
            problem = dataclasses.replace(error.problem, path=shown)
            settle([problem], on_broken=on_broken, where="The data set")
            known.problems.append(problem)
        work.step("media", len(known.samples), len(known.samples))
        if count % SEGMENT == 0:
            _write(folder, known, start, stream.state(), is_whole=False)
            start = len(known.samples), len(known.problems)
            logger.info("%d samples are encoded", start[0])
    _write(folder, known, start, {}, is_whole=True)


def _encode(
    row: Sample, folder: Path, work: Filler, known: _Rows, is_kept: Callable[[int], bool]
) -> EncodedSample:
    place = work.sample(row)
    known.num_new += "media" in place.made
    known.num_new_given += "given" in place.made
    if is_kept(row.id):
        _keep(folder, place.content, row.media)
    return EncodedSample(
        row.id,
        row.name,
        row.caption,
        place.bucket,
        place.media_key,
        "",
        place.given_key,
        place.given_content,
        content=place.content,
    )


def _kept(folder: Path, content: str) -> Path:
    return folder / "media" / content[:2] / content


def _keep(folder: Path, content: str, media: Locator) -> None:
    path = _kept(folder, content)
    if path.is_file():
        return
    with media.open() as file:
        write_cached(path.parent, path, file.read())


def _segment(folder: Path, number: int) -> Path:
    return folder / "rows" / f"{number:06d}.json"


def _write(
    folder: Path, known: _Rows, start: tuple[int, int], state: Mapping[str, Any], *, is_whole: bool
) -> None:
    """Write what came after ``start`` as the next segment."""
    segment = {
        "samples": [dataclasses.asdict(one) for one in known.samples[start[0] :]],
        "problems": [dataclasses.asdict(one) for one in known.problems[start[1] :]],
        "state": dict(state),
        "is_whole": is_whole,
    }
    text = json.dumps(segment).encode("utf-8", "surrogatepass")
    path = _segment(folder, known.num_segments)
    write_cached(path.parent, path, text)
    known.num_segments += 1
    known.is_whole = is_whole


def _read(folder: Path, cache: EncodedCache) -> _Rows:
    """Return what is known, up to the first segment that is broken or not in the cache."""
    known = _Rows()
    while not known.is_whole and (path := _segment(folder, known.num_segments)).is_file():
        try:
            segment = read_json(path)
            samples = [_sample(entry) for entry in segment["samples"]]
            problems = [Problem(**entry) for entry in segment["problems"]]
            state, is_whole = dict(segment["state"]), bool(segment["is_whole"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.warning("%s can't be read (%s): its rows are read again", path, error)
            break
        if not all(_is_there(sample, cache) for sample in samples):
            logger.warning("%s is of what is no longer in the cache: it is made again", path)
            break
        known.samples += samples
        known.problems += problems
        known.state, known.is_whole = state, is_whole
        known.num_segments += 1
    return known


def _sample(entry: Mapping[str, Any]) -> EncodedSample:
    return EncodedSample(**{**entry, "bucket": Bucket(**entry["bucket"])})


def _is_there(sample: EncodedSample, cache: EncodedCache) -> bool:
    return cache.has("media", sample.media_key) and (
        not sample.given_key or cache.has("given", sample.given_key)
    )
