"""Samples in tables: Hugging Face parquet files, and folders that ``datasets`` has saved.

A table has a column of captions and one of media, of the names in :mod:`ddrl.data.layouts.columns`.
Cells of media are bytes, structs of ``bytes`` and ``path``, or paths; ``first_frame``, or the
source images of edits, may be there, of the same form and in every row. To find samples only
captions are read, and what tells of rows: ``split``, and the ``status`` of a download.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from ddrl.data.layouts.bounds import Bounds
from ddrl.data.layouts.captions import CaptionError, clean_caption, decode_text, parse_object
from ddrl.data.layouts.columns import CAPTIONS, Columns, find_column
from ddrl.data.locators import FileLocator
from ddrl.data.problems import OUTSIDE_HINT, BrokenFileError, Problem
from ddrl.data.samples import Sample, sample_id
from ddrl.data.splits import Splits, split_of_value
from ddrl.disk import check_regular
from ddrl.errors import DataError, printable

EXTRA = "parquet"
DOWNLOAD_HINT = "download what is there first, for example with img2dataset"


@dataclass(frozen=True, slots=True)
class CellLocator:
    """A cell of a table.

    Attributes:
        path: the table's file.
        column: of the cell.
        part: the row group of a parquet file, or the record batch of an Arrow file.
        row: within the part.
        number: within the file, for messages.
        bounds: of the data set, where a cell is the path of a file.
    """

    path: Path
    column: str
    part: int
    row: int
    number: int
    bounds: Bounds

    @property
    def name(self) -> str:
        """The file, and which cell of it."""
        return f"{self.path}:{self.number}:{self.column}"

    def open(self) -> BinaryIO:
        """Read the cell into memory.

        Raises:
            BrokenFileError: the table can't be read, the cell has no bytes, or it names a file
                that is not there, or outside of the data set.
        """
        try:
            cell = _column(self.path, self.part, self.column)[self.row]
        except Exception as error:  # over a broken table pyarrow may raise anything
            raise BrokenFileError(self.name, "unreadable", f"can't be read: {error}") from error
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if isinstance(content, bytes):
            return io.BytesIO(content)
        named = cell.get("path") if isinstance(cell, dict) else cell
        if isinstance(named, str) and named:
            return self._file(named).open()
        raise BrokenFileError(self.name, "missing_media", "has nothing in its cell")

    def _file(self, name: str) -> FileLocator:
        """Return the file that a cell names, relative to the table."""
        if "://" in name:
            message = f"is an address, {name}: nothing is downloaded while training"
            raise BrokenFileError(self.name, "missing_media", message, hint=DOWNLOAD_HINT)
        path = self.path.parent / name
        is_checked = self.bounds.outside == "refuse" and "\0" not in name  # no path has a zero byte
        if is_checked and (real := self.bounds.beyond(path)):
            message = f"names {name}, which leads out of the data set, to {real}"
            raise BrokenFileError(self.name, "outside", message, hint=OUTSIDE_HINT)
        return FileLocator(path)


def find_in_tables(
    root: Path, tables: Iterable[Path], bounds: Bounds, splits: Splits, columns: Columns
) -> tuple[list[Sample], list[Problem]]:
    """Find the samples of parquet and Arrow files.

    Raises:
        DataError: pyarrow is not installed, a table can't be read or has no such columns, or there
            is no such split.
    """
    _pyarrow()
    problems: list[Problem] = []
    found: list[_Table] = []
    for path in tables:
        where = path.name if root == path else path.relative_to(root).as_posix()
        if path != root and (refusal := bounds.refusal(where, path)):
            problems.append(refusal)
            continue
        try:
            check_regular(path)
            found.append(_read(path, where, bounds, columns))
        except DataError:
            raise
        except Exception as error:  # over a broken table pyarrow may raise anything
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            reason = reason.rstrip(".") or type(error).__name__
            raise DataError(
                f"The table {path} can't be read: {reason}.",
                hint="see that it is whole, or download it again",
            ) from error
    rows = [row for table in found for row in table.rows]
    if not splits.is_chosen:
        kept = splits.choose((row.split for row in rows), unit="sample")
        rows = [row for row in rows if row.split in kept]
    problems += [note for table in found for note in table.notes]
    return (
        [row.made for row in rows if isinstance(row.made, Sample)],
        problems + [row.made for row in rows if isinstance(row.made, Problem)],
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """A row as a sample, or what is wrong with it, and the split that it names."""

    made: Sample | Problem
    split: str


@dataclass(frozen=True)
class _Table:
    rows: list[_Row]
    notes: list[Problem]


def _read(path: Path, where: str, bounds: Bounds, columns: Columns) -> _Table:
    names = _column_names(path)
    title = f"The table {path}"
    caption, media = columns.of_caption(title, names), columns.of_media(title, names)
    given, split = columns.of_given(title, names), find_column(names, ("split",))
    status = "status" if {"status", "url"} <= set(names) else ""
    table = _Table([], [])
    number = failed = several = 0
    for part in range(_num_parts(path)):
        captions = _column(path, part, caption)
        told = [
            _column(path, part, one) if one else [None] * len(captions) for one in (split, status)
        ]
        for row, (cell, of, state) in enumerate(zip(captions, *told, strict=True)):
            name = printable(f"{where}:{number}")
            number += 1
            if is_failed(state):
                failed += 1
                continue
            place = (part, row, number - 1, bounds)
            image = CellLocator(path, given, *place) if given else None
            several += isinstance(cell, list) and len(cell) > 1
            try:
                text = clean_caption(caption_of_cell(cell))
                medium = CellLocator(path, media, *place)
                sample = Sample(sample_id(name), name, text, medium, image)
                table.rows.append(_Row(sample, split_of_value(of)))
            except CaptionError as fault:
                problem = Problem(name, fault.kind, fault.message)
                table.rows.append(_Row(problem, split_of_value(of)))
    if failed:
        message = f"has {failed} rows that were not downloaded"
        table.notes.append(Problem(where, "not_downloaded", message))
    if several:
        message = f"has several captions in {several} rows; the first of each counts"
        table.notes.append(Problem(where, "other_captions", message))
    return table


def is_failed(status: object) -> bool:
    """Return whether img2dataset could not download a row, which it keeps without media."""
    return isinstance(status, str) and status.startswith("failed")


def caption_of_cell(cell: object) -> object:
    """Return the caption of a cell: a text, its bytes, a list of texts, or a sample's record."""
    if isinstance(cell, list) and cell:
        cell = cell[0]
    if isinstance(cell, bytes):
        cell = decode_text(cell)
    if isinstance(cell, str) and cell.startswith("{"):
        with contextlib.suppress(CaptionError):
            cell = parse_object(cell.encode("utf-8", "surrogatepass"))
    return cell.get(find_column(cell, CAPTIONS)) if isinstance(cell, dict) else cell


def _pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise DataError(
            "Reading parquet files and `datasets` folders needs pyarrow.",
            hint=f"pip install 'ddrl[{EXTRA}]'",
        ) from error


def _batches(path: Path) -> Any:  # noqa: ANN401 - of pyarrow, which may not be there
    from pyarrow import ipc, memory_map

    return list(ipc.open_stream(memory_map(str(path))))


def _column_names(path: Path) -> list[str]:
    from pyarrow import ipc, memory_map, parquet

    if path.suffix == ".arrow":
        return list(ipc.open_stream(memory_map(str(path))).schema.names)
    return list(parquet.ParquetFile(path).schema_arrow.names)


def _num_parts(path: Path) -> int:
    from pyarrow import parquet

    if path.suffix == ".arrow":
        return len(_batches(path))
    return int(parquet.ParquetFile(path).num_row_groups)


@lru_cache(maxsize=4)
def _column(path: Path, part: int, column: str) -> list[Any]:
    """Return the cells of one column of one part; the last few are kept for rows in order."""
    from pyarrow import parquet

    if path.suffix == ".arrow":
        cells = _batches(path)[part].column(column).to_pylist()
    else:
        table = parquet.ParquetFile(path).read_row_group(part, columns=[column])
        cells = table.column(column).to_pylist()
    return list(cells)
