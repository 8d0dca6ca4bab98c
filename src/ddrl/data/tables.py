"""Samples in tables: Hugging Face parquet files, and folders that ``datasets`` has saved.

A table has a column ``caption`` (or ``text``, ``prompt``) and a column ``image`` or ``video`` (or
``media``), whose cells are bytes, or structs of ``bytes`` and ``path``; ``first_frame`` may be
there, of the same form and in every row. To find samples only captions are read.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from ddrl.data.captions import CaptionError, clean_caption
from ddrl.data.locators import FileLocator
from ddrl.data.problems import BrokenFileError, Problem
from ddrl.data.samples import Sample, sample_id
from ddrl.errors import DataError, printable

__all__ = ["CellLocator", "find_in_tables"]

EXTRA = "parquet"

_CAPTION_COLUMNS = ("caption", "text", "prompt")
_MEDIA_COLUMNS = ("image", "video", "media")
_FIRST_FRAME = "first_frame"


@dataclass(frozen=True, slots=True)
class CellLocator:
    """A cell of a table.

    Attributes:
        path: the table's file.
        column: of the cell.
        part: the row group of a parquet file, or the record batch of an Arrow file.
        row: within the part.
        number: within the file, for messages.
    """

    path: Path
    column: str
    part: int
    row: int
    number: int

    @property
    def name(self) -> str:
        """The file, and which cell of it."""
        return f"{self.path}:{self.number}:{self.column}"

    def open(self) -> BinaryIO:
        """Read the cell into memory.

        Raises:
            BrokenFileError: the table can't be read, or the cell has no bytes.
        """
        try:
            cell = _column(self.path, self.part, self.column)[self.row]
        except (OSError, ValueError, IndexError) as error:
            raise BrokenFileError(self.name, "unreadable", f"can't be read: {error}") from error
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if isinstance(content, bytes):
            return io.BytesIO(content)
        if isinstance(cell, dict) and cell.get("path"):
            return FileLocator(self.path.parent / str(cell["path"])).open()
        raise BrokenFileError(self.name, "missing_media", "has nothing in its cell")


def find_in_tables(root: Path, tables: Iterable[Path]) -> tuple[list[Sample], list[Problem]]:
    """Find the samples of parquet and Arrow files.

    Raises:
        DataError: pyarrow is not installed, or a table can't be read or has no such columns.
    """
    _pyarrow()
    samples: list[Sample] = []
    problems: list[Problem] = []
    for path in tables:
        where = path.name if root == path else path.relative_to(root).as_posix()
        try:
            for sample in _samples(path, where):
                if isinstance(sample, Sample):
                    samples.append(sample)
                else:
                    problems.append(sample)
        except (OSError, ValueError) as error:
            raise DataError(f"The table {path} can't be read: {error}.") from error
    return samples, problems


def _samples(path: Path, where: str) -> Iterator[Sample | Problem]:
    names = _column_names(path)
    caption_column = _choose(path, names, _CAPTION_COLUMNS)
    media_column = _choose(path, names, _MEDIA_COLUMNS)
    number = 0
    for part in range(_num_parts(path)):
        for row, caption in enumerate(_column(path, part, caption_column)):
            name = printable(f"{where}:{number}")
            media = CellLocator(path, media_column, part, row, number)
            first = None
            if _FIRST_FRAME in names:
                first = CellLocator(path, _FIRST_FRAME, part, row, number)
            try:
                yield Sample(sample_id(name), name, clean_caption(caption), media, first)
            except CaptionError as fault:
                yield Problem(name, fault.kind, fault.message)
            number += 1


def _choose(path: Path, names: Sequence[str], wanted: Sequence[str]) -> str:
    for name in wanted:
        if name in names:
            return name
    raise DataError(
        f"The table {path} has none of the columns {', '.join(wanted)}; it has {', '.join(names)}.",
        hint="rename the column",
    )


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
    """The cells of one column of one part; the last few are kept, as rows are read in order."""
    from pyarrow import parquet

    if path.suffix == ".arrow":
        cells = _batches(path)[part].column(column).to_pylist()
    else:
        table = parquet.ParquetFile(path).read_row_group(part, columns=[column])
        cells = table.column(column).to_pylist()
    return list(cells)
