"""Tables, by a stand-in for pyarrow that has the few functions that are called."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tests.data.making import write_image

from ddrl.data import tables
from ddrl.data.files import find_samples
from ddrl.data.images import read_image
from ddrl.data.problems import BrokenFileError
from ddrl.errors import DataError

Part = dict[str, list[Any]]
FILES: dict[str, list[Part]] = {}


class Column(list[Any]):
    def to_pylist(self) -> list[Any]:
        return list(self)


class Batch:
    def __init__(self, part: Part) -> None:
        self.part = part

    def column(self, name: str) -> Column:
        return Column(self.part[name])


class ParquetFile:
    def __init__(self, path: Path) -> None:
        if path.name not in FILES:
            raise ValueError("no magic bytes")
        self.parts = FILES[path.name]
        self.num_row_groups = len(self.parts)
        self.schema_arrow = SimpleNamespace(names=list(self.parts[0]))

    def read_row_group(self, number: int, *, columns: list[str]) -> Batch:
        return Batch({name: self.parts[number][name] for name in columns})


class Stream(list[Batch]):
    def __init__(self, name: str) -> None:
        super().__init__(Batch(part) for part in FILES[Path(name).name])
        self.schema = SimpleNamespace(names=list(FILES[Path(name).name][0]))


@pytest.fixture
def fake_pyarrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package: Any = ModuleType("pyarrow")
    package.parquet, package.ipc = ModuleType("pyarrow.parquet"), ModuleType("pyarrow.ipc")
    package.parquet.ParquetFile, package.ipc.open_stream = ParquetFile, Stream
    package.memory_map = lambda path: path
    for name, module in [("", package), (".parquet", package.parquet), (".ipc", package.ipc)]:
        monkeypatch.setitem(sys.modules, f"pyarrow{name}", module)
    yield
    FILES.clear()
    tables._column.cache_clear()


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
@pytest.mark.usefixtures("fake_pyarrow")
def test_rows_are_samples(tmp_path: Path, name: str) -> None:
    content = write_image(tmp_path / "x" / "b.png").read_bytes()
    FILES[name] = [
        {"image": [{"bytes": content, "path": None}, content], "text": ["one", None]},
        {"image": [{"bytes": None, "path": "x/b.png"}, None], "text": ["two", "three"]},
    ]
    (tmp_path / name).touch()
    found = find_samples(tmp_path, layout="parquet")
    assert {s.name: s.caption for s in found.samples} == {
        f"{name}:0": "one",
        f"{name}:2": "two",
        f"{name}:3": "three",
    }
    assert [(p.path, p.kind) for p in found.problems] == [(f"{name}:1", "bad_caption")]
    assert read_image(found.samples[0].media).shape == (3, 16, 24)
    assert read_image(found.samples[1].media).shape == (3, 16, 24)
    with pytest.raises(BrokenFileError, match="has nothing in its cell"):
        read_image(found.samples[2].media)


@pytest.mark.usefixtures("fake_pyarrow")
def test_first_frames_and_what_is_no_table(tmp_path: Path) -> None:
    content = write_image(tmp_path / "x" / "b.png").read_bytes()
    FILES["a.parquet"] = [{"video": [b""], "caption": ["x"], "first_frame": [content]}]
    (tmp_path / "a.parquet").touch()
    (sample,) = find_samples(tmp_path / "a.parquet").samples
    assert sample.first_frame is not None
    assert read_image(sample.first_frame).shape == (3, 16, 24)
    FILES["a.parquet"] = [{"video": [b""], "title": ["x"]}]
    with pytest.raises(DataError, match="none of the columns caption, text, prompt"):
        find_samples(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").touch()
    with pytest.raises(DataError, match=r"b\.parquet can't be read: no magic"):
        find_samples(tmp_path / "b.parquet")


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(DataError, match="needs pyarrow") as caught:
        find_samples(tmp_path)
    assert "ddrl[parquet]" in caught.value.hint
