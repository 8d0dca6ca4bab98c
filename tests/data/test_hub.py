"""Sets of the hub as streams: read by `datasets` from local folders of the same layout.

There is no network in tests: what the hub itself answers is not part of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
import torch
from tests.data.making import write_image, write_lines
from tests.data.test_encoding import Bench
from tests.data.test_tables import write_table

from ddrl.data.encoded.cache import EncodedCache
from ddrl.data.encoded.filling import Filler
from ddrl.data.encoded.streamed import Streamed, encode_stream
from ddrl.data.layouts.columns import Columns
from ddrl.data.layouts.hub import HubStream
from ddrl.data.layouts.pinned import HubSet, check_name, pin
from ddrl.data.media.framing import Bucket, Framing
from ddrl.data.media.images import read_image
from ddrl.data.problems import BrokenFileError, OnBroken, Problem
from ddrl.data.samples import Sample
from ddrl.errors import DataError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module", autouse=True)
def _apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the libraries off the network and off the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        yield


def write_set(root: Path, num: int = 6) -> Path:
    """A set as the hub has them: train in two tables, and a test split; every picture differs."""
    (root / "data").mkdir(parents=True)
    for split, count in (("train", num), ("test", 2)):
        pictures = [
            write_image(root.parent / f"{n}.png", colour=(n, n * 7 % 256, split == "train"))
            for n in range(count)
        ]
        rows: dict[str, list[Any]] = {
            "image": [{"bytes": path.read_bytes(), "path": None} for path in pictures],
            "text": [f"{split} {n % 4}" for n in range(count)],
        }
        kinds = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
        whole = datasets.Dataset.from_dict(rows, features=kinds)
        for part in range(2):
            name = f"{split}-{part:05d}-of-00002.parquet"
            whole.shard(2, part, contiguous=True).to_parquet(root / "data" / name)
    return root


def opened(root: Path, **options: Any) -> HubStream:
    return HubStream(pin(str(root), refs=root.parent / "refs"), **options)


def captions(stream: HubStream) -> list[str]:
    return [row.caption for row in stream.rows() if isinstance(row, Sample)]


class Work(Bench):
    """Encodes streams in a folder; counts what it encodes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "bench")
        self.folder = folder / "hub"
        self.calls_left = 1 << 30

    def encode_media(self, pixels: torch.Tensor) -> torch.Tensor:
        if not self.calls_left:
            raise KeyboardInterrupt
        self.calls_left -= 1
        return super().encode_media(pixels)

    def run_stream(
        self, stream: HubStream, *, share: float = 1.0, on_broken: OnBroken = "stop"
    ) -> Streamed:
        self.media_calls.clear()
        filler = Filler(self.cache, self.media, self.text, Framing((Bucket(8, 12),)))
        return encode_stream(
            stream,
            self.folder,
            filler,
            is_kept=lambda one: one < share * (1 << 63),
            on_broken=on_broken,
        )


class Counted(HubStream):
    """Counts the rows that are read."""

    def rows(self, state: Mapping[str, Any] | None = None) -> Iterator[Sample | Problem]:
        self.num_rows = 0
        for row in super().rows(state):
            self.num_rows += 1
            yield row


def test_training_takes_the_train_split(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    stream = opened(root)
    assert captions(stream) == [f"train {n % 4}" for n in range(6)]
    assert [note.message for note in stream.notes] == [
        "takes the split train and leaves out test; data.split names others"
    ]
    assert captions(opened(root, split="test")) == ["test 0", "test 1"]
    assert len(captions(opened(root, split="all"))) == 8
    with pytest.raises(DataError, match="has no split 'dev'; it has test, train"):
        captions(opened(root, split="dev"))


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddrl.data.encoded.streamed.SEGMENT", 2)
    source = opened(write_set(tmp_path / "set", 9), split="train+test").source
    whole = Work(tmp_path / "straight").run_stream(Counted(source, split="train+test")).report
    assert [sample.name for sample in whole.samples] == [
        *(f"train:{n}" for n in range(9)),
        *("test:0", "test:1"),
    ]
    for killed_after, left in ((0, 11), (1, 11), (5, 7), (7, 5), (10, 1)):
        work = Work(tmp_path / f"killed-{killed_after}")
        work.calls_left = killed_after
        with pytest.raises(KeyboardInterrupt):
            work.run_stream(Counted(source, split="train+test"))
        work.calls_left = 1 << 30
        stream = Counted(source, split="train+test")
        report = work.run_stream(stream).report
        assert stream.num_rows == left
        assert len(work.media_calls) == 11 - killed_after
        assert report.samples == whole.samples
        stream = Counted(source)
        assert work.run_stream(stream).report.samples == whole.samples
        assert not hasattr(stream, "num_rows")  # it is not opened any more
        assert work.media_calls == []


def test_what_is_lost_from_the_cache_is_made_again(tmp_path: Path) -> None:
    root, work = write_set(tmp_path / "set"), Work(tmp_path)
    before = work.run_stream(opened(root)).report
    (tmp_path / "bench" / "cache" / "media").rename(tmp_path / "gone")
    after = work.run_stream(opened(root)).report
    assert (after.samples, after.media_encoded) == (before.samples, 6)
    (segment,) = (work.folder / "rows").iterdir()
    segment.write_text("{")
    assert work.run_stream(opened(root)).report.media_reused == 6


def test_held_out_media_are_kept_or_read_again(tmp_path: Path) -> None:
    root, work = write_set(tmp_path / "set"), Work(tmp_path)
    pictures = [(3, 16, 24)] * 6
    streamed = work.run_stream(opened(root), share=0.4)
    kept = list((work.folder / "media").rglob("*/*"))
    assert 0 < len(kept) < 6
    stream = Counted(streamed.stream.source)  # type: ignore[attr-defined]
    streamed.stream = stream
    found = streamed.media(streamed.report.samples)
    assert [tuple(read_image(one).shape) for one in found] == pictures
    assert stream.num_rows > 0
    stream.num_rows = 0
    streamed.media(streamed.report.samples)
    assert stream.num_rows == 0
    rows = [row for row in opened(root).rows() if isinstance(row, Sample)]
    for one, row in zip(found, rows, strict=True):
        assert torch.equal(read_image(one), read_image(row.media))


def test_a_set_is_known_by_its_content(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    before = pin(str(root), refs=tmp_path)
    moved = root.rename(tmp_path / "moved")
    assert pin(str(moved), refs=tmp_path).revision == before.revision
    (moved / "data" / "train-00000-of-00002.parquet").rename(moved / "data" / "train.parquet")
    assert pin(str(moved), refs=tmp_path).revision != before.revision


def test_broken_rows_are_named(tmp_path: Path) -> None:
    text = ["a cat", None, " ", "a dog", "a fox", "an owl"]
    cells = [write_image(tmp_path / "a.png").read_bytes(), None, b"", b"no image", None, None]
    media: list[dict[str, Any]] = [{"bytes": cell, "path": None} for cell in cells]
    media[4] = {"bytes": None, "path": "/etc/hostname"}
    media[5] = {"bytes": None, "path": "https://example.org/a.png"}
    root, work = tmp_path / "set", Work(tmp_path)
    root.mkdir()
    write_table(root / "train.parquet", [{"image": media, "text": text}])
    with pytest.raises(DataError, match="train:1"):
        work.run_stream(opened(root))
    report = work.run_stream(opened(root), on_broken="skip").report
    assert [sample.caption for sample in report.samples] == ["a cat"]
    assert {problem.path: problem.kind for problem in report.problems} == {
        "train:1": "bad_caption",
        "train:2": "empty_caption",
        "train:3": "broken",
        "train:4": "outside",
        "train:5": "outside",
    }
    again = work.run_stream(opened(root), on_broken="skip").report
    assert again.problems == report.problems
    with pytest.raises(DataError, match="5 broken entries"):  # of rows that are known, too
        work.run_stream(opened(root))


def test_columns_and_configs(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    with pytest.raises(DataError, match="has no column 'alt'; it has image, text") as caught:
        captions(opened(root, columns=Columns("alt")))
    assert captions(opened(root, columns=Columns("text", "image")))
    (root / "README.md").write_text(
        "---\nconfigs:\n- config_name: small\n  data_files:\n  - split: train\n"
        "    path: data/train-00000*\n- config_name: large\n  data_files: data/*\n---\n"
    )
    with pytest.raises(DataError, match="has several configs; there are small, large") as caught:
        captions(opened(root))
    assert 'data.config = "small"' in caught.value.hint
    assert len(captions(opened(root, config="small"))) == 3
    with pytest.raises(DataError, match="has no config 'tiny'"):
        captions(opened(root, config="tiny"))


def test_sources_of_edits(tmp_path: Path) -> None:
    pictures = [write_image(tmp_path / f"{n}.png", colour=(n, 0, 0)) for n in range(4)]
    cells = [{"bytes": one.read_bytes(), "path": None} for one in pictures]
    rows = {"src_img": [*cells[:1], None], "target_img": cells[2:], "instruction": ["a", "b"]}
    kinds = dict.fromkeys(("src_img", "target_img"), datasets.Image())
    features = datasets.Features({**kinds, "instruction": datasets.Value("string")})
    (tmp_path / "set" / "data").mkdir(parents=True)
    whole = datasets.Dataset.from_dict(rows, features=features)
    whole.to_parquet(tmp_path / "set" / "data" / "train-00000-of-00001.parquet")
    first, second = opened(tmp_path / "set", columns=Columns(has_sources=True)).rows()
    assert isinstance(first, Sample)
    assert first.given is not None
    found = [read_image(one)[0, 0, 0].item() for one in (first.given, first.media)]
    assert (first.caption, found) == ("a", [0, 2])
    assert isinstance(second, Problem)
    assert (second.kind, second.message) == ("missing_source", "has nothing in its cell src_img")
    with pytest.raises(DataError, match="no column 'before'"):
        list(opened(tmp_path / "set", columns=Columns(source="before", has_sources=True)).rows())


def test_folders_of_files(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for split in ("train", "test"):
        write_image(root / split / "0.png")
        write_lines(root / split / "metadata.jsonl", {"file_name": "0.png", "text": split})
    (row,) = list(opened(root).rows())
    assert isinstance(row, Sample)
    assert (row.caption, tuple(read_image(row.media).shape)) == ("train", (3, 16, 24))
    (tmp_path / "list").mkdir()
    write_lines(tmp_path / "list" / "train.jsonl", {"path": "../set/train/0.png", "text": "x"})
    (problem,) = list(opened(tmp_path / "list").rows())
    assert isinstance(problem, Problem)
    assert problem.kind == "outside"


def test_what_is_no_set(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": ["x"]}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="can't be read") as caught:
        captions(opened(tmp_path / "saved"))
    assert 'data.source = "files"' in caught.value.hint
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="can't be read"):
        captions(opened(tmp_path / "empty"))
    write_lines(tmp_path / "a.jsonl", {"text": "x"})
    with pytest.raises(DataError, match="is no folder"):
        pin(str(tmp_path / "a.jsonl"), refs=tmp_path)
    for name in ("no set at all", "datas", "../a", "a/b/c"):
        with pytest.raises(DataError, match="neither a folder nor the name") as caught:
            check_name(name)
        assert "owner/name" in caught.value.hint


def test_without_a_network(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is on the hub, and HF_HUB_OFFLINE is set") as caught:
        pin("owner/name", refs=tmp_path)
    assert "HF_HUB_OFFLINE" in caught.value.hint
    assert pin(f"owner/name@{COMMIT}", refs=tmp_path) == HubSet("owner/name", COMMIT, False)
    (tmp_path / "owner--name@v1").write_text(COMMIT)  # what the hub said before
    assert pin("owner/name@v1", refs=tmp_path).revision == COMMIT
    with pytest.raises(DataError, match="can't be read"):
        next(HubStream(HubSet("owner/name", COMMIT, False)).rows())


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/hostname", "file:///etc/hostname", "https://example.org/a.png", "../../other/a"),
        *("hf://datasets/other/set@main/a.png", "simplecache::https://example.org/a.png"),
        f"hf://datasets/owner/name@{COMMIT}/../x/a.png",
        f"local://x::hf://datasets/owner/name@{COMMIT}/a.zip",
    ],
)
def test_rows_name_no_files_outside_of_the_set(path: str) -> None:
    stream = HubStream(HubSet("owner/name", COMMIT, False))
    with pytest.raises(BrokenFileError) as caught:
        stream._medium("train:0", {"bytes": None, "path": path})
    assert caught.value.problem.kind == "outside"


def test_without_datasets_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="needs the library datasets") as caught:
        check_name("owner/name")
    assert "ddrl[hub]" in caught.value.hint


def test_a_segment_is_plain_json(tmp_path: Path) -> None:
    work = Work(tmp_path)
    work.run_stream(opened(write_set(tmp_path / "set")))
    (segment,) = (work.folder / "rows").iterdir()
    known = json.loads(segment.read_text())
    assert (known["is_whole"], len(known["samples"])) == (True, 6)
    assert isinstance(work.cache, EncodedCache)
