"""Pairs media with captions by name, in a folder and in a shard alike."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from typing import Any

from ddrl.data.layouts.columns import CAPTIONS, FIRST_FRAMES, SOURCES, Columns, find_column
from ddrl.data.layouts.listing import is_paper
from ddrl.data.layouts.name_groups import NameGroup, group_by_name, normal
from ddrl.data.locators import MAX_TEXT, Locator, read_text
from ddrl.data.media.formats import suffix_of
from ddrl.data.problems import BrokenFileError, Problem, ProblemKind
from ddrl.data.samples import Sample, sample_id
from ddrl.disk import parse_json
from ddrl.errors import printable

# Keys of a list's line that say something of its own; all others are the prompt's metadata.
_OWN_KEYS = frozenset({"caption", "prompt", "path", *FIRST_FRAMES})


class CaptionError(Exception):
    """A caption that can't be used; carries its kind and what is wrong, to follow the path."""

    def __init__(self, kind: ProblemKind, message: str) -> None:
        super().__init__(message)
        self.kind: ProblemKind = kind
        self.message = message


def pair(
    entries: Mapping[str, Locator],
    *,
    prefix: str = "",
    key_of: Callable[[str], str],
    columns: Columns,
    frames: Mapping[str, Locator] | None = None,
) -> tuple[list[Sample], list[Problem]]:
    """Make samples of the files that share a name.

    Args:
        entries: every file by its path.
        prefix: what goes before a path to make it relative to the data set.
        key_of: the part of a path that a medium and its caption share.
        columns: of captions: the key of a record, which counts before a text if it is named; of
            media: the end of their names, such as ``jpg``.
        frames: where given images may be, too.
    """
    groups = group_by_name(entries, key_of, columns)
    entries = {**(frames or {}), **entries}
    by_normal = {normal(name): name for name in entries}
    samples: list[Sample] = []
    problems: list[Problem] = []
    uncaptioned: list[str] = []
    given: set[str] = set()
    for group in groups.values():
        if (group.media or group.source) and not group.text and not group.record:
            uncaptioned += [*group.media, *group.source]
            continue
        try:
            sample = _sample(group, entries, by_normal, prefix, given, columns)
            if sample is not None:
                samples.append(sample)
        except _GroupError as fault:
            problems += fault.problems
        except BrokenFileError as error:
            name = (group.text + group.record)[0]
            problem = error.problem
            problems.append(Problem(prefix + name, problem.kind, problem.message))
    problems += [
        Problem(prefix + name, "missing_caption", "has no caption: no .txt, no .json")
        for name in uncaptioned
        if name not in given
    ]
    return samples, problems


class _GroupError(Exception):
    """A group that makes no sample."""

    def __init__(self, names: list[str], kind: ProblemKind, message: str) -> None:
        super().__init__(message)
        self.problems = [Problem(name, kind, message) for name in names]


def _sample(
    group: NameGroup,
    entries: Mapping[str, Locator],
    by_normal: Mapping[str, str],
    prefix: str,
    given: set[str],
    columns: Columns,
) -> Sample | None:
    """Return the sample of a group; None where nothing in it is ours."""
    captions = group.text + group.record
    if not captions or (
        not group.media and not any(_is_caption(entries[name], name, columns) for name in captions)
    ):
        return None
    for names in (group.media, group.source, group.text, group.record):
        if len(names) > 1:
            others = ", ".join(printable(posixpath.basename(name)) for name in names)
            message = f"can't be told apart by name: {others}"
            raise _GroupError([prefix + name for name in names], "duplicate_name", message)
    if not group.media:
        message = "is a caption without media"
        if group.other:
            strange = printable(posixpath.basename(group.other[0]))
            message += f"; {strange} is of no known kind"
        raise _GroupError([prefix + name for name in captions], "missing_media", message)
    (medium,) = group.media
    caption, frame_name = "", ""
    order = (*group.record, *group.text)  # where both have a caption, the text counts
    for name in reversed(order) if columns.caption else order:
        content = read_text(entries[name])
        try:
            text, frame = _read_caption(content, name, columns, is_alone=len(captions) == 1)
            caption = text or caption
            frame_name = frame or frame_name
        except CaptionError as fault:
            raise _GroupError([prefix + name], fault.kind, fault.message) from fault
    name, image = prefix + medium, None
    found = group.source[0] if group.source else ""
    if frame_name:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(medium), frame_name))
        found = by_normal.get(normal(path), "")
        if not found:
            message = f"names a {columns.given_name} that is not there: {frame_name}"
            raise _GroupError([prefix + group.record[0]], columns.missing_given, message)
    if found:
        image = entries[found]
        given.add(found)
    elif columns.has_sources:
        stem = posixpath.basename(posixpath.splitext(medium)[0])
        message = f"has no source image: no {stem}.source.png, and none in a {stem}.json"
        raise _GroupError([name], columns.missing_given, message)
    return Sample(sample_id(name), name, caption, entries[medium], image)


def _is_caption(locator: Locator, name: str, columns: Columns) -> bool:
    """Return whether a text or record that no medium goes with was the caption of one."""
    if suffix_of(name) != ".json":
        return not is_paper(name)
    try:
        record = parse_object(read_text(locator))
    except CaptionError:
        return False
    return isinstance(record.get(_caption_key(record, columns)), str)


def _read_caption(
    content: bytes, name: str, columns: Columns, *, is_alone: bool
) -> tuple[str, str]:
    """Caption and given image of a caption file; a record need not have any beside a text."""
    if suffix_of(name) != ".json":
        return clean_caption(decode_text(content)), ""
    record = parse_object(content)
    images = columns.source or find_column(record, SOURCES)
    where = images if columns.has_sources else find_column(record, FIRST_FRAMES)
    frame = record.get(where) or ""
    if not isinstance(frame, str):
        raise CaptionError("bad_caption", f"has a {where} that is no text")
    key = _caption_key(record, columns)
    if key not in record and not is_alone:
        return "", frame
    return clean_caption(record.get(key)), frame


def _caption_key(record: Mapping[str, object], columns: Columns) -> str:
    return columns.caption or find_column(record, columns.captions)


def decode_text(content: bytes) -> str:
    """Decode UTF-8, with or without a byte order mark.

    Raises:
        CaptionError: it is in another encoding, or too long.
    """
    if len(content) > MAX_TEXT:
        message = f"is longer than {MAX_TEXT >> 20} MiB; neither it nor what follows it was read"
        raise CaptionError("bad_caption", message)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 (byte {error.start} is 0x{content[error.start]:02x})"
        raise CaptionError("caption_encoding", message) from error


def parse_object(content: bytes) -> dict[str, object]:
    """Parse a JSON object.

    Raises:
        CaptionError: it is none, or not UTF-8.
    """
    text = decode_text(content)
    try:
        value = parse_json(text)
    except ValueError as error:
        raise CaptionError("bad_caption", f"is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise CaptionError("bad_caption", 'is no JSON object like {"caption": "..."}')
    return value


def caption_of_line(
    record: Mapping[str, Any], columns: Columns, *, own: tuple[str, ...] = ()
) -> tuple[str, dict[str, Any]]:
    """Return the ``caption`` of a list's line, or else its ``prompt``, and the metadata.

    Args:
        record: the line.
        columns: which key holds the caption, if the user names one.
        own: further keys that are no metadata: of the paths to medium and given image.

    Raises:
        CaptionError: there is none, it is no text, or it is empty.
    """
    usual = (*columns.instructions, "caption", "prompt", *CAPTIONS)
    key = columns.caption or find_column(record, usual)
    if key not in record:
        raise CaptionError("bad_caption", 'has no "caption" and no "prompt"')
    known = _OWN_KEYS | {key, *own}
    metadata = {name: value for name, value in record.items() if name not in known}
    return clean_caption(record[key]), metadata


def clean_caption(value: object) -> str:
    """Return a caption without white space around it.

    Raises:
        CaptionError: there is none, it is no text, or it is empty.
    """
    if value is None:
        raise CaptionError("bad_caption", 'has no "caption"')
    if not isinstance(value, str):
        raise CaptionError("bad_caption", f'has a "caption" that is no text: {value!r:.40}')
    if len(value) > MAX_TEXT:
        raise CaptionError("bad_caption", f"is longer than {MAX_TEXT >> 20} Mi characters")
    text = value.strip()
    if not text:
        raise CaptionError("empty_caption", "is an empty caption")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CaptionError("bad_caption", "has half a surrogate pair in it") from error
    return text
