"""Tables as pyarrow writes them, of the form that the Hugging Face library ``datasets`` gives."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet
from tests.data.making import cut, write_image, write_video

from ddrl.data.layouts.files import find_samples
from ddrl.data.media.images import read_image
from ddrl.data.media.videos import read_video
from ddrl.data.problems import BrokenFileError
from ddrl.errors import DataError

Rows = dict[str, list[Any]]
MEDIA = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""An image or a video of ``datasets``."""


def write_table(
    path: Path, parts: Sequence[Rows], *, text: Any = None, media: Any = MEDIA, **options: Any
) -> None:
    """Write one row group or record batch per part, with the features that ``datasets`` notes."""
    kinds = {n: text or pa.string() if n in ("text", "caption") else media for n in parts[0]}
    features = {
        n: {"_type": "Image"} if t == MEDIA else {"dtype": "string", "_type": "Value"}
        for n, t in kinds.items()
    }
    note = json.dumps({"info": {"features": features}})
    schema = pa.schema(list(kinds.items()), metadata={"huggingface": note})
    batches = [pa.RecordBatch.from_pydict(part, schema=schema) for part in parts]
    if path.suffix == ".arrow":
        with ipc.new_stream(str(path), schema) as stream:
            for batch in batches:
                stream.write_batch(batch)
    else:
        with parquet.ParquetWriter(path, schema, **options) as writer:
            for batch in batches:
                writer.write_batch(batch)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_rows_are_samples(tmp_path: Path, name: str) -> None:
    content = write_image(tmp_path / "x" / "b.png").read_bytes()
    other = write_image(tmp_path / "x" / "c.png", width=8).read_bytes()
    whole = {"bytes": content, "path": "b.png"}  # datasets names files that it has taken in
    first: Rows = {"image": [whole, whole], "text": ["one", None]}
    second: Rows = {
        "image": [{"bytes": None, "path": "x/b.png"}, None, {"bytes": other, "path": None}],
        "text": ["two", "three", "four"],
    }
    write_table(tmp_path / name, [first, second])
    found = find_samples(tmp_path, layout="parquet")
    assert {s.name: s.caption for s in found.samples} == {
        f"{name}:0": "one",
        f"{name}:2": "two",
        f"{name}:3": "three",
        f"{name}:4": "four",
    }
    assert [(p.path, p.kind) for p in found.problems] == [(f"{name}:1", "bad_caption")]
    for index, shape in ((0, (3, 16, 24)), (1, (3, 16, 24)), (3, (3, 16, 8))):
        assert read_image(found.samples[index].media).shape == shape
    with pytest.raises(BrokenFileError, match="has nothing in its cell"):
        read_image(found.samples[2].media)


@pytest.mark.parametrize("options", [{}, {"compression": "zstd"}, {"use_dictionary": False}])
@pytest.mark.parametrize("text", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_however_it_is_stored(tmp_path: Path, text: Any, options: dict[str, Any]) -> None:
    content = write_image(tmp_path / "b.png").read_bytes()
    rows: Rows = {"image": [content, content], "caption": ["one", "one"]}
    write_table(tmp_path / "a.parquet", [rows], text=text, media=pa.large_binary(), **options)
    one, two = find_samples(tmp_path / "a.parquet").samples
    assert (one.caption, two.caption, one.id == two.id) == ("one", "one", False)
    assert read_image(two.media).shape == (3, 16, 24)


def test_shards_in_folders_with_videos(tmp_path: Path) -> None:
    content = write_video(tmp_path / "v.mp4").read_bytes()
    (tmp_path / "data").mkdir()
    for shard in range(2):
        rows: Rows = {"video": [{"bytes": content, "path": "v.mp4"}], "text": [f"shard {shard}"]}
        write_table(tmp_path / "data" / f"train-0000{shard}-of-00002.parquet", [rows])
    found = find_samples(tmp_path / "data")
    assert [s.caption for s in found.samples] == ["shard 0", "shard 1"]
    assert read_video(found.samples[1].media, num_frames=5).shape == (5, 3, 16, 32)


def test_first_frames(tmp_path: Path) -> None:
    content = write_image(tmp_path / "x" / "b.png").read_bytes()
    cell = {"bytes": content, "path": None}
    rows: Rows = {"video": [{"bytes": b"", "path": None}], "caption": ["x"], "first_frame": [cell]}
    write_table(tmp_path / "a.parquet", [rows])
    (sample,) = find_samples(tmp_path / "a.parquet").samples
    assert sample.given is not None
    assert read_image(sample.given).shape == (3, 16, 24)


def test_what_is_no_table_of_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_table(path, [{"image": [b""], "title": [b""]}], media=pa.binary())
    with pytest.raises(
        DataError, match=r"no column of captions .* caption, text, prompt; it has image"
    ):
        find_samples(path)
    write_table(path, [{"image": [b"0" * 5000], "caption": ["x"]}], media=pa.binary())
    cut(path)
    for broken in (path, tmp_path / "b.parquet", tmp_path / "c.arrow"):
        broken.touch()
        with pytest.raises(DataError, match=rf"{broken.name} can't be read: ."):
            find_samples(broken)


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(DataError, match="needs pyarrow") as caught:
        find_samples(tmp_path)
    assert "ddrl[parquet]" in caught.value.hint
