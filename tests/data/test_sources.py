"""Source images of edits, in every layout: with which result and instruction they go."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
import torch
from tests.data.making import write_image
from torch import Tensor

from ddrl.data.encoded.cache import EncodedCache
from ddrl.data.encoded.encoders import GivenEncoder, MediaEncoder, TextEncoder
from ddrl.data.encoded.encoding import encode
from ddrl.data.encoded.filling import Filler
from ddrl.data.layouts.columns import Columns
from ddrl.data.layouts.files import Found, find_samples
from ddrl.data.locators import FileLocator
from ddrl.data.media.framing import Bucket, Framing
from ddrl.data.media.images import read_image
from ddrl.data.samples import Sample
from ddrl.errors import DataError

EDITS = Columns(has_sources=True)
RED, BLUE = (250, 0, 0), (0, 0, 250)


def colours(sample: Sample) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Those of the source and of the result, each of one colour."""
    assert sample.given is not None
    red, blue = (read_image(one)[:, 0, 0].tolist() for one in (sample.given, sample.media))
    return tuple(red), tuple(blue)


def only(found: Found) -> Sample:
    assert not found.problems
    (sample,) = found.samples
    return sample


def write_pair(root: Path, source: str = "a.source.png", result: str = "a.png") -> None:
    write_image(root / source, colour=RED)
    write_image(root / result, colour=BLUE)


@pytest.mark.parametrize(
    ("source", "columns"),
    [
        ("a.source.png", EDITS),
        ("a.BEFORE.jpg", EDITS),
        ("a.input_image.webp", EDITS),
        ("a-old.png", Columns(source="-old.png", has_sources=True)),
    ],
)
def test_folder_and_shard(tmp_path: Path, source: str, columns: Columns) -> None:
    write_image(tmp_path / "set" / source, colour=BLUE)
    write_image(tmp_path / "set" / "a.png", colour=BLUE)
    (tmp_path / "set" / "a.txt").write_text("redden it")
    sample = only(find_samples(tmp_path / "set", columns=columns))
    assert (sample.name, sample.caption) == ("a.png", "redden it")
    assert sample.given == FileLocator(tmp_path / "set" / source)
    assert sample.media == FileLocator(tmp_path / "set" / "a.png")
    if source == "a-old.png":  # members of a shard pair up to the first dot
        return
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for file in sorted((tmp_path / "set").iterdir()):
            archive.add(file, file.name)
    sample = only(find_samples(tmp_path / "set.tar", columns=columns))
    assert (sample.caption, sample.media.name.endswith("a.png")) == ("redden it", True)
    assert sample.given is not None
    assert sample.given.name.endswith(source)


def test_a_record_names_its_source(tmp_path: Path) -> None:
    write_pair(tmp_path, "old/a.png", "new/a.png")
    record = {"instruction": "redden it", "caption": "a red thing", "source": "../old/a.png"}
    (tmp_path / "new" / "a.json").write_text(json.dumps(record))
    sample = only(find_samples(tmp_path, columns=EDITS))
    assert (sample.name, sample.caption) == ("new/a.png", "redden it")
    assert colours(sample) == (RED, BLUE)
    (tmp_path / "old" / "a.png").unlink()
    (problem,) = find_samples(tmp_path, columns=EDITS).problems
    assert (problem.path, problem.kind) == ("new/a.json", "missing_source")


def test_what_has_no_source_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("redden it")
    write_image(tmp_path / "b.source.png")
    found = find_samples(tmp_path, columns=EDITS)
    assert [(one.path, one.kind) for one in found.problems] == [
        ("a.png", "missing_source"),
        ("b.source.png", "missing_caption"),
    ]
    assert "no a.source.png" in found.problems[0].message


def test_to_a_base_of_texts_such_a_name_says_nothing(tmp_path: Path) -> None:
    for name in ("a", "a.source"):
        write_image(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(name)
    found = find_samples(tmp_path)
    assert [sample.caption for sample in found.samples] == ["a", "a.source"]
    assert not found.problems


def test_a_list(tmp_path: Path) -> None:
    write_pair(tmp_path, "b.png", "a.png")
    lines = [
        {
            "caption": "a thing",
            "edit_prompt": "redden",
            "before": "b.png",
            "after": "a.png",
            "n": 1,
        },
        {"edit_prompt": "x", "after": "a.png"},
        {"edit_prompt": "y", "before": "../c.png", "after": "a.png"},
        {"edit_prompt": "z", "before": "c.png", "after": "a.png"},
    ]
    path = tmp_path / "list.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    found = find_samples(path, columns=EDITS)
    (sample,) = found.samples
    assert (sample.caption, colours(sample)) == ("redden", (RED, BLUE))
    assert dict(sample.metadata) == {"n": 1}
    assert [(one.path, one.kind) for one in found.problems] == [
        ("list.jsonl:2", "missing_source"),
        ("list.jsonl:3", "outside"),
        ("list.jsonl:4", "missing_source"),
    ]
    named = Columns("n", "b", "a", has_sources=True)
    path.write_text(json.dumps({"n": "redden", "a": "b.png", "b": "a.png"}))
    assert colours(only(find_samples(path, columns=named))) == (RED, BLUE)


def test_a_table(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    def cell(colour: tuple[int, int, int]) -> dict[str, object]:
        content = write_image(tmp_path / "x.png", colour=colour).read_bytes()
        return {"bytes": content, "path": None}

    rows = {
        "source_img": [cell(RED), None],
        "target_img": [cell(BLUE), cell(BLUE)],
        "instruction": ["redden it", "redden it again"],
    }
    parquet.write_table(pyarrow.table(rows), tmp_path / "edits.parquet")
    first, second = find_samples(tmp_path / "edits.parquet", columns=EDITS).samples
    assert (first.caption, colours(first)) == ("redden it", (RED, BLUE))
    assert second.given is not None
    with pytest.raises(DataError, match=r"edits\.parquet:1:source_img: has nothing in its cell"):
        read_image(second.given)
    with pytest.raises(DataError, match="no column of captions") as error:
        find_samples(tmp_path / "edits.parquet")
    assert "data.source_images = 1" in error.value.hint


def test_the_result_is_never_its_own_source(tmp_path: Path) -> None:
    """Also where a reader gives a sample without one, as its own first frame would be given."""
    write_pair(tmp_path, "b.png", "a.png")
    seen: list[Tensor] = []

    def give(pixels: Tensor, frames: int, _: str) -> dict[str, Tensor]:
        assert frames == 1
        seen.append(pixels)
        return {"given": pixels}

    def run(*samples: Sample) -> None:
        encode(
            samples,
            Filler(
                EncodedCache(tmp_path / "cache"),
                MediaEncoder(lambda x: x, "m"),
                TextEncoder(lambda texts: {"x": torch.zeros(len(texts), 1)}, "t"),
                Framing((Bucket(8, 8),)),
                given=GivenEncoder(give, "g", 1, is_source=True),
            ),
            on_broken="stop",
        )

    result, source = FileLocator(tmp_path / "a.png"), FileLocator(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"a\.png: has no source image"):
        run(Sample(1, "a.png", "redden it", result))
    assert not seen
    run(Sample(1, "a.png", "redden it", result, source))
    (pixels,) = seen
    assert pixels.shape == (1, 1, 3, 8, 8)
    assert (pixels[0, 0, :, 0, 0] * 255).round().tolist() == list(RED)
    (tmp_path / "c.png").write_bytes(io.BytesIO(b"no picture").getvalue())
    with pytest.raises(DataError, match=r"a\.png: its source image "):
        run(Sample(1, "a.png", "redden it", result, FileLocator(tmp_path / "c.png")))


def test_of_a_pair_the_instruction_counts(tmp_path: Path) -> None:
    """Where source and text are encoded together, what is kept is found by both."""
    write_pair(tmp_path, "b.png", "a.png")
    read: list[str] = []

    def give(pixels: Tensor, frames: int, caption: str) -> dict[str, Tensor]:
        read.append(caption)
        return {"given": pixels}

    def run(caption: str, *, reads_text: bool) -> None:
        result, source = FileLocator(tmp_path / "a.png"), FileLocator(tmp_path / "b.png")
        encode(
            [Sample(1, "a.png", caption, result, source)],
            Filler(
                EncodedCache(tmp_path / f"cache-{reads_text}"),
                MediaEncoder(lambda x: x, "m"),
                TextEncoder(lambda texts: {"x": torch.zeros(len(texts), 1)}, "t"),
                Framing((Bucket(8, 8),)),
                given=GivenEncoder(give, "g", 1, is_source=True, reads_text=reads_text),
            ),
        )

    for caption in ("redden it", "blue it", "redden it"):
        run(caption, reads_text=True)
    assert read == ["redden it", "blue it"]
    read.clear()
    for caption in ("redden it", "blue it"):
        run(caption, reads_text=False)
    assert read == ["redden it"]
