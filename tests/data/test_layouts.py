"""Data sets laid out as their tools write them: each is read, whole and once, or refused in words.

The sets of ``datasets`` are written by it, those of other tools file by file as these write them.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet
from tests.data.making import caption, write_image, write_lines, write_video

from ddrl.data.layouts.columns import Columns
from ddrl.data.layouts.files import Found, find_samples, usable
from ddrl.data.media.images import read_image
from ddrl.data.problems import Problem
from ddrl.errors import DataError

SPLITS = {"train": ("a cat", "a dog"), "validation": ("a fox",), "test": ("an owl", "a bat")}
TRAINED = ["a cat", "a dog"]


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_image(tmp_path_factory.mktemp("one") / "a.jpg").read_bytes()


@pytest.fixture(autouse=True)
def _no_bars(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache-of-datasets")


def texts(found: Found) -> list[str]:
    """The captions of a set in which nothing is broken, and every picture of which can be read."""
    for sample in usable(found, on_broken="stop"):
        assert read_image(sample.media).shape == (3, 16, 24)
    return sorted(sample.caption for sample in found.samples)


def notes(found: Found) -> dict[str, str]:
    return {problem.kind: problem.message for problem in found.problems}


def table_of(pixels: bytes, *captions: str) -> datasets.Dataset:
    rows = {"image": [{"bytes": pixels, "path": None}] * len(captions), "text": list(captions)}
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    return datasets.Dataset.from_dict(rows, features=features)


def write_papers(folder: Path) -> None:
    """What lies beside the data, and is none."""
    for name in ("README.md", "README.txt", "LICENSE.txt", "LICENSE-CC-BY-4.0.txt", "classes.txt"):
        (folder / name).write_text("about the set")
    for name in (".gitattributes", "Thumbs.db", "desktop.ini", ".DS_Store", "._0.png", "._a.tar"):
        (folder / name).write_bytes(b"\0\1")
    (folder / "dataset_info.json").write_text('{"features": {}}')
    write_image(folder / "__MACOSX" / "a.png")
    write_image(folder / "@eaDir" / "a.png" / "SYNOPHOTO_THUMB_M.jpg")
    (folder / ".cache" / "huggingface" / "download").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "download" / "a.parquet").write_bytes(b"PAR1")


def write_pairs(folder: Path, *captions: str, suffix: str = ".txt") -> None:
    for number, text in enumerate(captions):
        write_image(folder / f"{number}.png").with_suffix(suffix).write_text(text)


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def hub_tables(root: Path, pixels: bytes) -> None:
    (root / "data").mkdir()
    for split, captions in SPLITS.items():
        for number, text in enumerate(captions):
            name = f"{split}-{number:05d}-of-{len(captions):05d}.parquet"
            table_of(pixels, text).to_parquet(root / "data" / name)
    write_image(root / "assets" / "teaser.png")
    write_papers(root)


def hub_tables_in_folders(root: Path, pixels: bytes) -> None:
    for split, captions in SPLITS.items():
        (root / "default" / split).mkdir(parents=True)
        table_of(pixels, *captions).to_parquet(root / "default" / split / "0000.parquet")


def saved_dict(root: Path, pixels: bytes) -> None:
    parts = {split: table_of(pixels, *captions) for split, captions in SPLITS.items()}
    datasets.DatasetDict(parts).save_to_disk(root)
    table_of(pixels, "an old one").save_to_disk(root / "backup")
    write_papers(root)


def saved_and_mapped(root: Path, pixels: bytes) -> None:
    table_of(pixels, *TRAINED).save_to_disk(root, num_shards=2)
    one = datasets.load_from_disk(str(root))
    one.filter(lambda text: "cat" in text, input_columns="text")
    one.map(lambda row: {"length": len(row["text"])})
    assert list(root.glob("cache-*.arrow"))  # what `map` leaves in the folder
    (root / "tmpx1yz").write_bytes(b"half")
    (root / "data-00000-of-00001.arrow").write_bytes(
        (root / "data-00000-of-00002.arrow").read_bytes()
    )


def cache_of_datasets(root: Path, pixels: bytes) -> None:
    for split, captions in SPLITS.items():
        table_of(pixels, *captions).to_parquet(root.parent / f"{split}.parquet")
    files = {split: str(root.parent / f"{split}.parquet") for split in SPLITS}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(root))
    loaded["train"].map(lambda row: {"length": len(row["text"])})


def imagefolder(root: Path, pixels: bytes) -> None:
    for split, captions in SPLITS.items():
        for number in range(len(captions)):
            write_image(root / split / f"{number}.png")
        rows = [{"file_name": f"{n}.png", "text": text} for n, text in enumerate(captions)]
        write_lines(root / split / "metadata.jsonl", *rows)
    write_papers(root)


def imagefolder_csv(root: Path, pixels: bytes) -> None:
    with (root.joinpath("metadata.csv")).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "additional", "text"])
        for split, captions in SPLITS.items():
            for number, text in enumerate(captions):
                write_image(root / split / f"{number}.png")
                writer.writerow([f"{split}/{number}.png", "x, y", text])


def imagefolder_parquet(root: Path, pixels: bytes) -> None:
    for split, captions in SPLITS.items():
        names = [write_image(root / split / f"{n}.png").name for n in range(len(captions))]
        table = pa.table({"file_name": names, "text": captions})
        parquet.write_table(table, root / split / "metadata.parquet")


def folders(root: Path, pixels: bytes) -> None:
    for split, captions in SPLITS.items():
        write_pairs(root / f"{split}2017", *captions)
    (root / "test2017" / "lost.txt").write_text("broken, but not ours")
    write_papers(root)


def webdataset(root: Path, pixels: bytes) -> None:
    for split, captions in SPLITS.items():
        for number, text in enumerate(captions):
            record = json.dumps({"width": 24, "height": 16}).encode()
            members = {"0.jpg": pixels, "0.txt": text.encode(), "0.json": record, "0.cls": b"3"}
            members |= {"__MACOSX/._0.jpg": b"\0", ".ipynb_checkpoints/0.jpg": pixels}
            write_tar(root / f"cc-{split}-{number:06d}.tar", members | {"README.txt": b"about"})
    write_papers(root)


def archive_of_folders(root: Path, pixels: bytes) -> None:
    members: dict[str, bytes] = {}
    for split, captions in SPLITS.items():
        for number, text in enumerate(captions):
            members |= {f"set/{split}/{number}.jpg": pixels}
            members |= {f"set/{split}/{number}.txt": text.encode()}
    write_tar(root / "everything.tar", members)


def webdataset_tables(root: Path, pixels: bytes) -> None:
    """As ``datasets`` converts shards: a column for each suffix."""
    (root / "data").mkdir()
    for split, captions in SPLITS.items():
        members: dict[str, bytes] = {}
        for number, text in enumerate(captions):
            record = json.dumps({"caption": text}).encode()
            members |= {f"{number}.jpg": pixels, f"{number}.json": record, f"{number}.cls": b"3"}
        write_tar(root.parent / f"{split}.tar", members)
    files = {split: str(root.parent / f"{split}.tar") for split in SPLITS}
    cache = str(root.parent / "loaded")
    loaded = datasets.load_dataset("webdataset", data_files=files, cache_dir=cache)
    for split in SPLITS:
        loaded[split].to_parquet(root / "data" / f"{split}-00000-of-00001.parquet")


def table_with_a_column_of_splits(root: Path, pixels: bytes) -> None:
    rows = [(text, split) for split, captions in SPLITS.items() for text in captions]
    columns = {"caption": [[text, "another"] for text, _ in rows], "split": [of for _, of in rows]}
    cells = {"image": [{"bytes": pixels, "path": None} for _ in rows]}
    parquet.write_table(pa.table(cells | columns), root / "karpathy.parquet")


HAVE_SPLITS = [
    hub_tables,
    hub_tables_in_folders,
    saved_dict,
    cache_of_datasets,
    imagefolder,
    imagefolder_csv,
    imagefolder_parquet,
    folders,
    webdataset,
    archive_of_folders,
    webdataset_tables,
    table_with_a_column_of_splits,
]


@pytest.mark.parametrize("write", HAVE_SPLITS, ids=lambda write: write.__name__)
def test_training_takes_the_train_split(
    tmp_path: Path, pixels: bytes, write: Callable[[Path, bytes], None]
) -> None:
    root = tmp_path / "set"
    root.mkdir()
    write(root, pixels)
    found = find_samples(root)
    assert texts(found) == TRAINED
    said = notes(found)["other_splits"]
    assert said.startswith("takes the split train (")
    assert "leaves out test (" in said
    assert "validation (1 " in said
    assert len(texts(find_samples(root, split="train+val"))) == 3
    if write is not folders:  # its test split has something broken
        assert texts(find_samples(root, split="test")) == ["a bat", "an owl"]
        assert len(texts(find_samples(root, split="all"))) == 5
    with pytest.raises(DataError, match=r"has no split 'tets'; it has test, train, validation\."):
        find_samples(root, split="tets")


def test_a_saved_set_is_what_it_lists(tmp_path: Path, pixels: bytes) -> None:
    saved_and_mapped(tmp_path / "set", pixels)
    assert texts(find_samples(tmp_path / "set")) == TRAINED
    (tmp_path / "set" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"state\.json lists data-00001-of-00002\.arrow, which is"):
        find_samples(tmp_path / "set")


def img2dataset(root: Path, pixels: bytes, *, output: str) -> None:
    """Four addresses, two of which could be downloaded, as img2dataset 1.45 leaves them."""
    states = ("success", "failed_to_download", "success", "failed_to_resize")
    captions = ("a cat", "gone", "a dog", "odd")
    keys = [f"00000{number:04d}" for number in range(4)]
    columns: dict[str, Any] = {"caption": captions, "key": keys}
    columns["url"] = [f"http://x/{key}" for key in keys]
    columns |= {"status": states, "error_message": ["", "404", "", "too small"]}
    members: dict[str, bytes] = {}
    for key, text, state in zip(keys, captions, states, strict=True):
        if state == "success":
            record = {"caption": text, "url": f"http://x/{key}", "key": key, "status": state}
            members |= {f"{key}.jpg": pixels, f"{key}.txt": text.encode()}
            members |= {f"{key}.json": json.dumps(record).encode()}
    if output == "webdataset":
        write_tar(root / "00000.tar", members)
    elif output == "files":
        for name, content in members.items():
            (root / "00000").mkdir(parents=True, exist_ok=True)
            (root / "00000" / name).write_bytes(content)
    elif output == "parquet":
        columns["jpg"] = [pixels if state == "success" else None for state in states]
    root.mkdir(exist_ok=True)
    parquet.write_table(pa.table(columns), root / "00000.parquet")
    (root / "00000_stats.json").write_text('{"count": 4, "successes": 2, "status_dict": {}}')


@pytest.mark.parametrize("output", ["webdataset", "files", "parquet"])
def test_what_img2dataset_has_downloaded(tmp_path: Path, pixels: bytes, output: str) -> None:
    img2dataset(tmp_path / "set", pixels, output=output)
    found = find_samples(tmp_path / "set")
    assert texts(found) == TRAINED
    if output == "parquet":
        assert notes(found) == {"not_downloaded": "has 2 rows that were not downloaded"}


def test_a_list_of_addresses_is_refused(tmp_path: Path, pixels: bytes) -> None:
    img2dataset(tmp_path / "set", pixels, output="dummy")
    with pytest.raises(DataError, match="no column of media") as caught:
        find_samples(tmp_path / "set")
    assert "download" in caught.value.hint
    addresses = {"image": ["https://x/a.png"], "text": ["a cat"]}
    parquet.write_table(pa.table(addresses), tmp_path / "b.parquet")
    (sample,) = find_samples(tmp_path / "b.parquet").samples
    with pytest.raises(DataError, match="is an address"):
        read_image(sample.media)


def test_kohya_s_folders(tmp_path: Path) -> None:
    write_pairs(tmp_path / "img" / "10_ohwx cat", "a cat", suffix=".caption")
    write_pairs(tmp_path / "img" / "10_ohwx cat", "a dog", suffix=".txt")
    write_pairs(tmp_path / "img" / "1_cat", "a fox")
    (tmp_path / "img" / "10_ohwx cat" / "0.npz").write_bytes(b"latents")
    (tmp_path / "meta_cap.json").write_text('{"0": {"caption": "a cat"}}')
    (tmp_path / "sample_prompts.txt").write_text("a cat --w 512")
    found = find_samples(tmp_path)
    assert texts(found) == ["a dog", "a fox"]  # a .txt counts before a .caption
    assert "10_ohwx cat, 1_cat are no repeats" in notes(found)["repeats"]
    (tmp_path / "img" / "10_ohwx cat" / "0.txt").unlink()
    assert texts(find_samples(tmp_path)) == ["a cat", "a fox"]


def test_a_videofolder(tmp_path: Path) -> None:
    write_video(tmp_path / "clips" / "a.mp4")
    write_image(tmp_path / "a.png")
    row = {"video_file_name": "clips/a.mp4", "first_frame_file_name": "a.png", "prompt": "moves"}
    write_lines(tmp_path / "metadata.jsonl", {**row, "fps": 12})
    (sample,) = find_samples(tmp_path).samples
    assert (sample.name, sample.caption, sample.metadata) == ("clips/a.mp4", "moves", {"fps": 12})
    assert sample.given is not None


def test_columns_of_other_names_are_named(tmp_path: Path, pixels: bytes) -> None:
    cells = pa.table({"photo": [pixels], "alt": ["a cat"], "long": ["a cat on a mat"]})
    parquet.write_table(cells, tmp_path / "a.parquet")
    with pytest.raises(
        DataError, match=r"no column of captions .*; it has photo, alt, long\."
    ) as e:
        find_samples(tmp_path)
    assert "data.caption_column" in e.value.hint
    with pytest.raises(DataError, match="no column of media") as e:
        find_samples(tmp_path, columns=Columns("long"))
    assert "data.media_column" in e.value.hint
    assert texts(find_samples(tmp_path, columns=Columns("long", "photo"))) == ["a cat on a mat"]
    with pytest.raises(DataError, match=r"has no column 'short'; it has photo, alt, long\."):
        find_samples(tmp_path, columns=Columns("short", "photo"))


def test_a_csv_beside_pictures_is_a_list(tmp_path: Path) -> None:
    for split, captions in SPLITS.items():
        rows = [
            f"{write_image(tmp_path / 'images' / f'{text}.png').name},{text}" for text in captions
        ]
        lines = "\n".join(["image_path,caption", *(f"images/{row}" for row in rows)])
        (tmp_path / f"{split}.csv").write_text(lines)
    found = find_samples(tmp_path)
    assert texts(found) == TRAINED
    (tmp_path / "train.csv").write_bytes(b"image_path,caption\nimages/a cat.png,caf\xe9\n")
    with pytest.raises(DataError, match=r"train\.csv is not UTF-8"):
        find_samples(tmp_path)
    (tmp_path / "train.csv").write_text('image_path,caption\na.png,b,c\n"images/a cat.png"\n')
    problems = find_samples(tmp_path).problems
    assert {one.path: one.kind for one in problems if not one.is_note} == {
        "train.csv:2": "bad_line",
        "train.csv:3": "bad_caption",
    }


@pytest.mark.parametrize("text", [b"a cat", '{"caption": "a cat"}', ["a cat"], {"text": "a cat"}])
def test_captions_of_tables_come_in_forms(tmp_path: Path, pixels: bytes, text: object) -> None:
    parquet.write_table(pa.table({"PNG": [pixels], "TXT": [text]}), tmp_path / "a.parquet")
    assert texts(find_samples(tmp_path)) == ["a cat"]


@pytest.mark.parametrize("name", ["list.jsonl", "list.csv", "list.tsv"])
def test_keys_of_lists_are_named(tmp_path: Path, name: str) -> None:
    row = {"photo": write_image(tmp_path / "a.png").name, "caption": "a cat", "long": "on a mat"}
    path = tmp_path / name
    if name == "list.jsonl":
        write_lines(path, row)
    else:
        mark = "," if name == "list.csv" else "\t"
        path.write_text(
            f"\ufeff{mark.join(row)}\r\n{mark.join(row.values())}\r\n", encoding="utf-8"
        )
    with pytest.raises(DataError, match="no column of media"):
        find_samples(path)
    assert texts(find_samples(path, columns=Columns("", "photo"))) == ["a cat"]
    (sample,) = find_samples(path, columns=Columns("long", "photo")).samples
    assert (sample.caption, sample.metadata) == ("on a mat", {})


def test_ends_of_names_are_columns_of_shards(tmp_path: Path, pixels: bytes) -> None:
    record = json.dumps({"text": "a cat", "long": "a cat on a mat"}).encode()
    write_tar(tmp_path / "a.tar", {"0.jpg": pixels, "0.depth.png": pixels, "0.json": record})
    assert notes(find_samples(tmp_path)).keys() == {"duplicate_name"}
    assert texts(find_samples(tmp_path, columns=Columns("", "jpg"))) == ["a cat"]
    assert texts(find_samples(tmp_path, columns=Columns("long", "jpg"))) == ["a cat on a mat"]


def test_one_set_has_one_list_and_one_version(tmp_path: Path, pixels: bytes) -> None:
    row = {"file_name": write_image(tmp_path / "a" / "a.png").name, "text": "a cat"}
    path = write_lines(tmp_path / "a" / "metadata.jsonl", row)
    path.with_suffix(".csv").write_text("file_name,text\na.png,a cat\n")
    with pytest.raises(DataError, match=r"a/metadata\.csv and a/metadata\.jsonl list the same"):
        find_samples(tmp_path)
    (tmp_path / "b").mkdir()
    for name in ("train-00000-of-00002", "train-00000-of-00003"):
        table_of(pixels, "a cat").to_parquet(tmp_path / "b" / f"{name}.parquet")
    with pytest.raises(DataError, match="parts of two versions"):
        find_samples(tmp_path / "b")


def test_without_a_train_split(tmp_path: Path, pixels: bytes) -> None:
    for name in ("test", "validation"):
        table_of(pixels, name).to_parquet(tmp_path / f"{name}-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"no split train; it has test, validation\.") as caught:
        find_samples(tmp_path)
    assert 'data.split = "test"' in caught.value.hint
    assert texts(find_samples(tmp_path / "test-00000-of-00001.parquet")) == ["test"]  # as named
    table_of(pixels, "a cat").to_parquet(tmp_path / "cats.parquet")
    assert texts(find_samples(tmp_path)) == ["a cat"]  # what is in no other split
    assert texts(find_samples(tmp_path, split="train")) == ["a cat"]


def test_trains_and_tests_as_subjects(tmp_path: Path) -> None:
    for name in ("boat", "train"):
        write_pairs(tmp_path / name, f"a {name}")
    caption(write_image(tmp_path / "test.png"), "a test card")
    assert texts(find_samples(tmp_path)) == ["a boat", "a test card", "a train"]
    with pytest.raises(DataError, match="has no split 'test'"):
        find_samples(tmp_path, split="test")
    with pytest.raises(DataError, match="it has no named splits"):
        find_samples(tmp_path / "boat", split="test")


@pytest.mark.parametrize(
    ("name", "is_broken"),
    [
        *[("README_zh.txt", False), ("COPYING.txt", False), ("00001_stats.json", False)],
        *[("train_list.txt", False), ("sha256sums.txt", False), ("state.json", False)],
        *[("lost.txt", True), ("0007.caption", True), ("notes 12.txt", True)],
    ],
)
def test_papers_are_no_captions(tmp_path: Path, name: str, is_broken: bool) -> None:
    write_pairs(tmp_path, "a cat")
    (tmp_path / name).write_text('{"count": 3}')
    assert bool(find_samples(tmp_path).problems) == is_broken
    (tmp_path / name).unlink()
    (tmp_path / "lost.json").write_text('{"caption": "whose picture is gone"}')
    assert [problem.kind for problem in find_samples(tmp_path).problems] == ["missing_media"]


def test_packed_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.zip").write_bytes(b"PK")
    with pytest.raises(DataError) as caught:
        usable(find_samples(tmp_path), on_broken="stop")
    assert ".zip" in caught.value.hint


def test_a_first_frame_may_be_in_no_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_video(tmp_path / split / "a.mp4")
        record = {"caption": split, "first_frame": "../frames/a.png"}
        (tmp_path / split / "a.json").write_text(json.dumps(record))
    write_image(tmp_path / "frames" / "a.png")
    found = find_samples(tmp_path)
    assert [sample.caption for sample in found.samples] == ["train"]
    assert found.samples[0].given is not None
    assert isinstance(found.problems[0], Problem)
    assert [problem.kind for problem in found.problems] == ["other_splits"]
