"""Samples named by lists: jsonl files of caption, path, first frame, and a prompt's metadata."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ddrl.data.captions import CaptionError, caption_of_line, parse_object
from ddrl.data.formats import MEDIA_SUFFIXES, suffix_of
from ddrl.data.locators import FileLocator
from ddrl.data.problems import Problem
from ddrl.data.samples import Sample, sample_id
from ddrl.errors import DataError

__all__ = ["find_in_lists"]


def find_in_lists(root: Path, lists: Iterable[Path]) -> tuple[list[Sample], list[Problem]]:
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
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError as error:
            raise DataError(f"The list {path} can't be read: {error.strerror}.") from error
        where = path.name if root == path else path.relative_to(root).as_posix()
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                samples.append(_sample(line, path.parent, seen))
            except CaptionError as fault:
                problems.append(Problem(f"{where}:{number}", fault.kind, fault.message))
    return samples, problems


def _sample(line: bytes, folder: Path, seen: dict[str, set[str]]) -> Sample:
    record = parse_object(line)
    name = record.get("path")
    if not isinstance(name, str) or not name:
        raise CaptionError("bad_line", 'has no "path"')
    caption, metadata = caption_of_line(record)
    if suffix_of(name) not in MEDIA_SUFFIXES:
        raise CaptionError("wrong_extension", f"names {name}, which is of no known kind")
    media = _file(folder, name)
    if media is None:
        raise CaptionError("missing_media", f"names {name}, which is not there")
    first_frame = None
    if frame := record.get("first_frame"):
        first_frame = _file(folder, frame) if isinstance(frame, str) else None
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


def _file(folder: Path, name: str) -> FileLocator | None:
    try:
        return FileLocator(folder / name) if (folder / name).is_file() else None
    except (OSError, ValueError):  # a name that is too long, or has a zero byte in it
        return None
