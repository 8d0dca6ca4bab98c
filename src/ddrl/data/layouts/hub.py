"""Data sets of the Hugging Face hub as streams of samples, read by its library ``datasets``.

Nothing that a set brings is run: ``datasets`` has no loading scripts any more, and rows name no
files outside of the set.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddrl.data.layouts.bounds import Bounds, Outside
from ddrl.data.layouts.captions import CaptionError, clean_caption
from ddrl.data.layouts.columns import Columns
from ddrl.data.layouts.pinned import HubSet, datasets_library, reason_of
from ddrl.data.layouts.tables import DOWNLOAD_HINT, caption_of_cell, is_failed
from ddrl.data.locators import BytesLocator, FileLocator, Locator
from ddrl.data.problems import OUTSIDE_HINT, BrokenFileError, Problem
from ddrl.data.samples import Sample, sample_id
from ddrl.data.splits import Splits
from ddrl.errors import DataError, DDRLError

_PACKED = re.compile(r"(zip|tar|gzip|bz2|xz)://.*")


@dataclass
class HubStream:
    """The rows of a set, in its own order, from its start or from where a killed run was.

    Attributes:
        source: the set.
        config: which of its subsets; empty where it has one.
        split: as :class:`~ddrl.data.splits.Splits` takes it.
        columns: of captions and media, where they have no usual names.
        outside: what becomes of files outside of a local folder that rows name.
        notes: what is worth knowing of the choice of splits, after :meth:`rows` has begun.
    """

    source: HubSet
    config: str = ""
    split: str = "auto"
    columns: Columns = Columns()  # noqa: RUF009 - it is frozen
    outside: Outside = "refuse"
    notes: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._place: dict[str, Any] = {}
        self._current: Any = None

    def rows(self, state: Mapping[str, Any] | None = None) -> Iterator[Sample | Problem]:
        """Yield the rows, each as a sample, or as what is wrong with it.

        Args:
            state: of :meth:`state`: where to go on.

        Raises:
            DataError: the set can't be read, or has no such config, split or columns.
        """
        loaded = self._load()
        chosen = Splits(self.split, f"The data set {self.source}")
        kept = chosen.choose(loaded)
        self.notes = [] if chosen.note is None else [chosen.note]
        start = dict(state or {})
        names = [name for name in loaded if name in kept]
        for name in names[names.index(start["split"]) if start else 0 :]:
            self._current = _raw(loaded[name])
            self._place = {"split": name, "row": int(start.get("row", 0))}
            if start:
                self._current.load_state_dict(start["inner"])
            start = {}
            yield from self._split(name)

    def state(self) -> dict[str, Any]:
        """Return where the last row was, as JSON."""
        return {**self._place, "inner": self._current.state_dict()}

    def _load(self) -> Any:  # noqa: ANN401 - of datasets
        library = datasets_library()
        name, where = self.source.name, f"The data set {self.source}"
        revision = None if self.source.is_local else self.source.revision
        try:
            configs = library.get_dataset_config_names(name, revision=revision)
        except Exception as error:
            raise self._broken(error) from error
        is_plain = len(configs) < 2 or "default" in configs
        if (self.config and self.config not in configs) or not (self.config or is_plain):
            said = f"has no config {self.config!r}" if self.config else "has several configs"
            raise DataError(
                f"{where} {said}; there are {', '.join(configs)}.",
                hint=f'set data.config, such as data.config = "{configs[0]}"',
            )
        try:
            return library.load_dataset(
                name, name=self.config or None, revision=revision, streaming=True
            )
        except Exception as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> DataError:
        hint = "a folder of save_to_disk" if "save_to_disk" in str(error) else ""
        return DataError(
            f"The data set {self.source} can't be read: {reason_of(error)}.",
            hint=f'set data.source = "files" for {hint}' if hint else "see that it can be loaded",
        )

    def _split(self, split: str) -> Iterator[Sample | Problem]:
        rows = iter(self._current)
        names: list[str] = []
        while True:
            try:
                row = next(rows, None)
            except DDRLError:
                raise
            except Exception as error:  # of the network, or of whatever reads the format
                raise DataError(
                    f"The data set {self.source} can't be read beyond row {self._place['row']} of "
                    f"{split}: {reason_of(error)}.",
                    hint="run it again: it goes on from there",
                ) from error
            if row is None:
                return
            number = self._place["row"]
            self._place["row"] += 1
            names = names or list(row)
            if not is_failed(row.get("status") if "url" in row else None):
                yield self._sample(f"{split}:{number}", row, names)

    def _sample(self, name: str, row: Mapping[str, Any], names: list[str]) -> Sample | Problem:
        where = f"The data set {self.source}"
        caption = self.columns.of_caption(where, names)
        media = self.columns.of_media(where, names)
        given = self.columns.of_given(where, names)
        try:
            text = clean_caption(caption_of_cell(row.get(caption)))
            medium = self._medium(name, row.get(media))
            image = self._given(name, row.get(given), given) if given else None
        except CaptionError as fault:
            return Problem(name, fault.kind, fault.message)
        except BrokenFileError as fault:
            return fault.problem
        return Sample(sample_id(name), name, text, medium, image)

    def _given(self, name: str, cell: object, column: str) -> Locator:
        if not cell:
            message = f"has nothing in its cell {column}"
            raise BrokenFileError(name, self.columns.missing_given, message)
        return self._medium(name, cell)

    def _medium(self, name: str, cell: object) -> Locator:
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if isinstance(content, bytes):
            return BytesLocator(name, content)
        named = cell.get("path") if isinstance(cell, dict) else cell
        if not isinstance(named, str) or not named:
            raise BrokenFileError(name, "missing_media", "has nothing in its cell")
        return self._file(name, named)

    def _file(self, name: str, path: str) -> Locator:
        """Return what a row names: a file of the set, or one within an archive of it."""
        *packed, base = path.split("::")
        is_named = "://" in base
        if self.source.is_local and not is_named:
            root = Path(self.source.name)
            refusal = Bounds.of(root, self.outside).refusal(name, root / base)
            if refusal is not None:
                raise BrokenFileError(name, refusal.kind, refusal.message, hint=OUTSIDE_HINT)
            if not packed:
                return FileLocator(root / base)
            base = str(root / base)
        home = f"hf://datasets/{self.source.name}@{self.source.revision}/"
        if not self.source.is_local and not is_named and not base.startswith("/"):
            base = home + posixpath.normpath(base)
        is_ours = base.startswith(home) or (self.source.is_local and not is_named)
        if not is_ours or ".." in base.split("/") or not all(map(_PACKED.fullmatch, packed)):
            message = f"names {path}, which is no file of the set"
            raise BrokenFileError(name, "outside", message, hint=DOWNLOAD_HINT)
        return BytesLocator(name, _fetch(name, "::".join([*packed, base])))


def _fetch(name: str, path: str) -> bytes:
    import fsspec

    try:
        with fsspec.open(path, "rb") as file:
            return bytes(file.read())
    except Exception as error:  # of the network, the archive or the file
        raise BrokenFileError(name, "unreadable", f"can't be read: {reason_of(error)}") from error


def _raw(rows: Any) -> Any:  # noqa: ANN401 - of datasets
    """Return the rows of a split with media as they are stored; ddrl decodes them itself."""
    return rows.decode(False) if rows.features else rows
