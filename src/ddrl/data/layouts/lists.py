"""Samples named by lists: jsonl and csv files of caption, path, given image, and metadata.

A list is one of ours, or the ``metadata.csv`` or ``metadata.jsonl`` of an imagefolder or a
videofolder of ``datasets``. Paths are relative to the list.
"""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddrl.data.layouts.bounds import Bounds
from ddrl.data.layouts.captions import CaptionError, caption_of_line, parse_object
from ddrl.data.layouts.columns import MEDIA, PATHS, Columns, find_column
from ddrl.data.locators import FileLocator, read_lines
from ddrl.data.media.formats import MEDIA_SUFFIXES, suffix_of
from ddrl.data.problems import Problem
from ddrl.data.samples import Sample, sample_id
from ddrl.data.splits import Splits, split_of, split_of_value
from ddrl.disk import open_regular
from ddrl.errors import DataError


@dataclass(frozen=True)
class _Line:
    """One line of a list.

    Attributes:
        number: what messages call it, such as ``list.jsonl:3``.
        list: the list's file.
        within: the list's folder, relative to the data set.
        record: the line by column.
        column: of the path to the medium.
        given: of the path to the image that is given; empty where there is none.
    """

    number: str
    list: Path
    within: str
    record: dict[str, Any]
    column: str
    given: str

    @property
    def path(self) -> str:
        """The path as the line has it; an empty string where it has none."""
        value = self.record.get(self.column)
        return value if isinstance(value, str) else ""

    @property
    def name(self) -> str:
        """The path relative to the data set."""
        return posixpath.join(self.within, self.path)

    @property
    def split(self) -> str:
        """The split that the line, or else the path, names."""
        column = find_column(self.record, ("split",))
        return split_of_value(self.record.get(column)) or split_of(self.name)


def find_in_lists(
    root: Path, lists: Iterable[Path], bounds: Bounds, splits: Splits, columns: Columns
) -> tuple[list[Sample], list[Problem]]:
    """Find the samples of lists.

    A file may be listed again with another caption: that is another sample, whose identity
    depends on the caption too. The same line again is named as a duplicate.

    Raises:
        DataError: a list can't be read, or has no such columns.
    """
    problems: list[Problem] = []
    lines: list[_Line] = []
    for path in lists:
        where = path.name if root == path else path.relative_to(root).as_posix()
        if path != root and (refusal := bounds.refusal(where, path)):
            problems.append(refusal)
            continue
        try:
            lines += _read(path, where, columns, problems)
        except OSError as error:
            raise DataError(
                f"The list {path} can't be read: {error.strerror}.",
                hint="see that it is there and may be read",
            ) from error
    if not splits.is_chosen:
        kept = splits.choose((line.split for line in lines), unit="sample")
        lines = [line for line in lines if line.split in kept]
    samples: list[Sample] = []
    seen: dict[str, set[str]] = {}
    for line in lines:
        try:
            samples.append(_sample(line, seen, bounds, columns))
        except CaptionError as fault:
            problems.append(Problem(line.number, fault.kind, fault.message))
    return samples, problems


def _read(path: Path, where: str, columns: Columns, problems: list[Problem]) -> list[_Line]:
    """Return the lines of a list; what is no record becomes a problem."""
    within = posixpath.dirname(where)
    is_table = path.suffix.lower() in {".csv", ".tsv"}
    read = _read_csv(path) if is_table else _read_jsonl(path)
    records: list[tuple[str, dict[str, Any]]] = []
    for number, record in read:
        name = f"{where}:{number}"
        if isinstance(record, CaptionError):
            problems.append(Problem(name, record.kind, record.message))
        else:
            records.append((name, record))
    names = list(dict.fromkeys(key for _, record in records for key in record))
    if not names:
        return []
    columns.of_caption(str(path), names)
    columns.of_media(str(path), names)
    given = columns.of_given(str(path), names)
    usual = (*columns.results, *PATHS, *MEDIA)
    return [
        _Line(name, path, within, record, columns.media or find_column(record, usual), given)
        for name, record in records
    ]


_Read = Iterator[tuple[int, dict[str, Any] | CaptionError]]
"""(line, what it says or what is wrong with it)."""


def _read_jsonl(path: Path) -> _Read:
    for number, line in enumerate(read_lines(path), 1):
        try:
            if line.strip():
                yield number, parse_object(line)
        except CaptionError as fault:
            yield number, fault


def _read_csv(path: Path) -> _Read:
    """Read a table of text, with a head.

    Raises:
        DataError: it is none, or not UTF-8.
        OSError: it can't be read.
    """
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        try:
            for row in reader:
                if None in row:
                    message = "has more fields than the head of its table"
                    yield reader.line_num, CaptionError("bad_line", message)
                else:
                    yield reader.line_num, row
        except UnicodeDecodeError as error:
            raise DataError(f"The list {path} is not UTF-8.", hint="save it as UTF-8") from error
        except csv.Error as error:
            raise DataError(
                f"The list {path} can't be read: {error}.",
                hint="see that it is whole, or write it again",
            ) from error


def _sample(line: _Line, seen: dict[str, set[str]], bounds: Bounds, columns: Columns) -> Sample:
    if not line.path:
        raise CaptionError("bad_line", f'has no "{line.column or "path"}"')
    caption, metadata = caption_of_line(line.record, columns, own=(line.column, line.given))
    if suffix_of(line.path) not in MEDIA_SUFFIXES:
        raise CaptionError("wrong_extension", f"names {line.path}, which is of no known kind")
    media = _file(line, line.path, bounds)
    if media is None:
        raise CaptionError("missing_media", f"names {line.path}, which is not there")
    given = _given(line, bounds, columns)
    name = line.name
    captions = seen.setdefault(name, set())
    if caption in captions:
        raise CaptionError("duplicate_name", f"names {line.path} again, with the same caption")
    identity = sample_id(f"{name}\n{caption}" if captions else name)
    captions.add(caption)
    return Sample(identity, name, caption, media, given, metadata)


def _given(line: _Line, bounds: Bounds, columns: Columns) -> FileLocator | None:
    """Return the image that a line names beside its medium; a source has to be there."""
    kind, what = columns.missing_given, columns.given_name
    named = line.record.get(line.given)
    if not named and not columns.has_sources:
        return None
    if not named:
        raise CaptionError(kind, f'names no {what}: its "{line.given}" is empty')
    image = _file(line, named, bounds) if isinstance(named, str) else None
    if image is None:
        raise CaptionError(kind, f"names a {what} {named!r}, which is not there")
    return image


def _file(line: _Line, name: str, bounds: Bounds) -> FileLocator | None:
    path = line.list.parent / name
    try:
        # Where it leads is asked first: whether a file is there is no business of a stranger's.
        refusal = bounds.refusal(f"{line.number} ({name})", path)
        is_there = refusal is None and path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a zero byte in it
        return None
    if refusal is not None:
        raise CaptionError("outside", f"names {name}, which {refusal.message}")
    return FileLocator(path) if is_there else None
