"""Samples named by lists: jsonl files of caption, path, first frame, and a prompt's metadata."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ddrl.data.bounds import Bounds
from ddrl.data.captions import CaptionError, caption_of_line, parse_object
from ddrl.data.formats import MEDIA_SUFFIXES, suffix_of
from ddrl.data.locators import FileLocator, read_lines
from ddrl.data.problems import Problem
from ddrl.data.samples import Sample, sample_id
from ddrl.errors import DataError

__all__ = ["find_in_lists"]


def find_in_lists(
    root: Path, lists: Iterable[Path], bounds: Bounds
) -> tuple[list[Sample], list[Problem]]:
    """Find the samples of jsonl files.

    A file may be listed again with another caption: that is another sample, whose identity
    depends on the caption too. The same line again is named as a duplicate.

    Raises:
        DataError: a list can't be read.
    """
    samples: list[Sample] = []
    problems: list[Problem] = []
    seen: dict[str, set[str]] = {}
    for path in lists:
        where = path.name if root == path else path.relative_to(root).as_posix()
        if path != root and (refusal := bounds.refusal(where, path)):
            problems.append(refusal)
            continue
        try:
            for number, line in enumerate(read_lines(path), 1):
                name = f"{where}:{number}"
                try:
                    if line.strip():
                        samples.append(_sample(line, name, path.parent, seen, bounds))
                except CaptionError as fault:
                    problems.append(Problem(name, fault.kind, fault.message))
        except OSError as error:
            raise DataError(f"The list {path} can't be read: {error.strerror}.") from error
    return samples, problems


def _sample(
    line: bytes, number: str, folder: Path, seen: dict[str, set[str]], bounds: Bounds
) -> Sample:
    record = parse_object(line)
    name = record.get("path")
    if not isinstance(name, str) or not name:
        raise CaptionError("bad_line", 'has no "path"')
    caption, metadata = caption_of_line(record)
    if suffix_of(name) not in MEDIA_SUFFIXES:
        raise CaptionError("wrong_extension", f"names {name}, which is of no known kind")
    media = _file(folder, name, number, bounds)
    if media is None:
        raise CaptionError("missing_media", f"names {name}, which is not there")
    first_frame = None
    if frame := record.get("first_frame"):
        first_frame = _file(folder, frame, number, bounds) if isinstance(frame, str) else None
        if first_frame is None:
            raise CaptionError(
                "missing_first_frame", f"names a first frame {frame!r}, which is not there"
            )
    captions = seen.setdefault(name, set())
    if caption in captions:
        raise CaptionError("duplicate_name", f"names {name} again, with the same caption")
    identity = sample_id(f"{name}\n{caption}" if captions else name)
    captions.add(caption)
    return Sample(identity, name, caption, media, first_frame, metadata)


def _file(folder: Path, name: str, number: str, bounds: Bounds) -> FileLocator | None:
    path = folder / name
    try:
        # Where it leads is asked first: whether a file is there is no business of a stranger's.
        refusal = bounds.refusal(f"{number} ({name})", path)
        is_there = refusal is None and path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a zero byte in it
        return None
    if refusal is not None:
        raise CaptionError("outside", f"names {name}, which {refusal.message}")
    return FileLocator(path) if is_there else None
