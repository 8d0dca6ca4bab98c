"""No link, path or cell of a data set reads a file that is not of it, unless that is allowed."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from tests.data.making import caption, write_image, write_lines

from ddrl.data.check import check
from ddrl.data.layouts.bounds import Outside
from ddrl.data.layouts.files import Found, find_samples, usable
from ddrl.data.media.images import read_image
from ddrl.data.problems import BrokenFileError
from ddrl.errors import DataError

SECRET = "-----BEGIN OPENSSH PRIVATE KEY-----"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of one sample; beside it lies what is none of its business."""
    folder = tmp_path / "data"
    caption(write_image(folder / "good.png"))
    caption(write_image(tmp_path / "home" / "photo.png"), "a private photo")
    (tmp_path / "home" / "key").write_text(SECRET)
    write_lines(tmp_path / "home" / "more.jsonl", {"caption": SECRET, "path": "photo.png"})
    return folder


def linked_caption(root: Path) -> None:
    write_image(root / "b.png")
    (root / "b.txt").symlink_to(root.parent / "home" / "key")


def linked_caption_in_steps(root: Path) -> None:
    write_image(root / "b.png")
    (root / "step").symlink_to("../home/key")
    (root / "b.txt").symlink_to("step")


def linked_record(root: Path) -> None:
    write_image(root / "b.png")
    (root.parent / "home" / "token.json").write_text(f'{{"caption": "{SECRET}"}}')
    (root / "b.json").symlink_to("../home/token.json")


def linked_picture(root: Path) -> None:
    (root / "b.png").symlink_to("../home/photo.png")
    (root / "b.txt").write_text("a photo")


def linked_folder(root: Path) -> None:
    (root / "b").symlink_to(root.parent / "home", target_is_directory=True)


@pytest.mark.parametrize(
    "spoil",
    [linked_caption, linked_caption_in_steps, linked_record, linked_picture, linked_folder],
)
def test_a_link_out_of_a_folder_is_broken(root: Path, spoil: Callable[[Path], None]) -> None:
    spoil(root)
    found = find_samples(root)
    assert [sample.name for sample in found.samples] == ["good.png"]
    refused = [problem for problem in found.problems if problem.kind == "outside"]
    assert refused
    assert all(str(root.parent / "home") in problem.message for problem in refused)
    assert SECRET not in "".join(map(str, found.problems))
    with pytest.raises(DataError, match="leads out of the data set") as caught:
        usable(found, on_broken="stop")
    assert 'data.outside = "allow"' in caught.value.hint


@pytest.mark.parametrize("kind", ["absolute", "up", "through_link", "first_frame"])
def test_a_list_names_files_of_its_folder_only(root: Path, kind: str) -> None:
    (root / "link").symlink_to("../home", target_is_directory=True)
    name = {
        "absolute": str(root.parent / "home" / "photo.png"),
        "up": "../home/photo.png",
        "through_link": "link/photo.png",
        "first_frame": "good.png",
    }[kind]
    more = {"first_frame": "../home/photo.png"} if kind == "first_frame" else {}
    path = write_lines(
        root / "list.jsonl",
        {"caption": "x", "path": name, **more},
        {"caption": "y", "path": str(root / "good.png")},  # within, however it is written
        {"caption": "z", "path": "../data/good.png"},
    )
    for place in (root, path):
        found = find_samples(place)
        assert [sample.caption for sample in found.samples] == ["z", "y"]
        (problem,) = found.problems
        assert (problem.path, problem.kind) == ("list.jsonl:1", "outside")
        allowed = find_samples(place, outside="allow")
        assert len(allowed.samples) == 3
        assert [note.kind for note in allowed.problems] == ["outside_allowed"]


def test_whether_a_file_is_there_outside_is_not_told(root: Path) -> None:
    names = ["../home/photo.png", "../home/no.png"]
    path = write_lines(root / "list.jsonl", *({"caption": n, "path": n} for n in names))
    assert [problem.kind for problem in find_samples(path).problems] == ["outside", "outside"]


@pytest.mark.parametrize("name", ["b.jsonl", "b.tar", "b.parquet"])
def test_a_link_to_a_list_shard_or_table_elsewhere_is_broken(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "home" / "a.png")
    other = tmp_path / "home" / name
    if name.endswith("tar"):
        with tarfile.open(other, "w") as archive:
            archive.add(tmp_path / "home" / "a.png", "a.png")
    elif name.endswith("parquet"):
        parquet.write_table(pa.table({"caption": ["x"], "image": [b""]}), other)
    else:
        write_lines(other, {"caption": SECRET, "path": "a.png"})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).symlink_to(other)
    found = find_samples(tmp_path / "data")
    assert not found.samples
    assert [problem.kind for problem in found.problems] == ["outside"]
    # A file that the user names is theirs to name.
    assert not any(p.kind == "outside" for p in find_samples(tmp_path / "data" / name).problems)


def write_cells(root: Path, *names: str) -> Found:
    media = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = pa.array([{"bytes": None, "path": name} for name in names], media)
    captions = pa.array([str(i) for i in range(len(names))])
    path = root / "t.parquet"
    parquet.write_table(pa.table({"caption": captions, "image": cells}), path)
    return find_samples(path)


@pytest.mark.parametrize("name", ["../home/photo.png", "{home}/photo.png", "link/photo.png"])
def test_a_cell_names_files_of_its_folder_only(root: Path, name: str) -> None:
    (root / "link").symlink_to("../home", target_is_directory=True)
    found = write_cells(root, "good.png", name.format(home=root.parent / "home"))
    assert read_image(found.samples[0].media).shape == (3, 16, 24)
    with pytest.raises(BrokenFileError, match="leads out of the data set") as caught:
        read_image(found.samples[1].media)
    assert caught.value.problem.kind == "outside"
    allowed = find_samples(root / "t.parquet", outside="allow")
    assert read_image(allowed.samples[1].media).shape == (3, 16, 24)


def test_a_cell_with_a_zero_byte_or_a_pipe_in_it_is_broken(root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    for sample in write_cells(root, "a\0b.png", "pipe.png", "nowhere.png", ".").samples:
        with pytest.raises(BrokenFileError) as caught:
            read_image(sample.media)
        assert caught.value.problem.kind == "unreadable"


def test_what_is_allowed_is_noted_with_the_first_three(root: Path) -> None:
    for number in range(5):
        (root / f"{number}.png").symlink_to("../home/photo.png")
        (root / f"{number}.txt").write_text(f"photo {number}")
    report = check(root, outside="allow")
    assert report.num_samples == 6
    assert not report.broken
    (note,) = report.problems
    assert note.message.startswith("5 entries lead out of the data set")
    assert note.message.endswith(": 0.png, 1.png, 2.png and 2 more")


def test_links_within_and_a_data_set_behind_a_link_are_read(tmp_path: Path, root: Path) -> None:
    (root / "again.png").symlink_to("good.png")
    (root / "again.txt").symlink_to(root / "good.txt")
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    for place in (root, tmp_path / "link", tmp_path / "link" / ".." / "data"):
        found = find_samples(place)
        assert [sample.name for sample in found.samples] == ["again.png", "good.png"]
        assert not found.problems


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A data set as the hub's cache holds it: links to blobs that are named by their hash."""
    repo = tmp_path / "hub" / "datasets--someone--cats"
    folder = repo / "snapshots" / "0123abc"
    (folder / "train").mkdir(parents=True)
    (repo / "blobs").mkdir()
    picture = write_image(tmp_path / "a.png")
    shutil.move(picture, repo / "blobs" / "aaaa")
    (repo / "blobs" / "bbbb").write_text("a cat")
    write_lines(repo / "blobs" / "cccc", {"caption": "a list's cat", "path": "train/a.png"})
    for name, blob in (("a.png", "aaaa"), ("a.txt", "bbbb")):
        (folder / "train" / name).symlink_to(f"../../../blobs/{blob}")
    return folder


def test_a_snapshot_of_the_hub_is_read(snapshot: Path) -> None:
    for place in (snapshot, snapshot / "train"):
        found = find_samples(place)
        assert [sample.caption for sample in found.samples] == ["a cat"]
        assert not found.problems
    (snapshot / "list.jsonl").symlink_to("../../blobs/cccc")
    for place in (snapshot, snapshot / "list.jsonl"):
        found = find_samples(place)
        assert [sample.caption for sample in found.samples] == ["a list's cat"]
        assert not found.problems
        assert read_image(found.samples[0].media).shape == (3, 16, 24)


@pytest.mark.parametrize("target", ["../../../../../home/key", "../../../refs/key"])
def test_a_snapshot_leads_to_its_blobs_only(tmp_path: Path, snapshot: Path, target: str) -> None:
    for folder in (tmp_path / "home", snapshot.parents[1] / "refs"):
        folder.mkdir()
        (folder / "key").write_text(SECRET)
    (snapshot / "train" / "a.txt").unlink()
    (snapshot / "train" / "a.txt").symlink_to(target)
    assert (snapshot / "train" / "a.txt").read_text() == SECRET
    found = find_samples(snapshot)
    assert {problem.kind for problem in found.problems} == {"outside", "missing_caption"}


def test_blobs_that_are_a_link_are_no_blobs(tmp_path: Path, snapshot: Path) -> None:
    blobs = snapshot.parents[1] / "blobs"
    shutil.move(blobs, tmp_path / "home")
    blobs.symlink_to(tmp_path / "home", target_is_directory=True)
    found = find_samples(snapshot)
    assert not found.samples
    assert {problem.kind for problem in found.problems} == {"outside"}


@pytest.mark.parametrize("outside", ["refuse", "allow"])
def test_a_name_that_is_another_one_at_its_beginning_is_not_within(
    tmp_path: Path, outside: Outside
) -> None:
    caption(write_image(tmp_path / "data-private" / "a.png"))
    (tmp_path / "data").mkdir()
    path = write_lines(
        tmp_path / "data" / "list.jsonl", {"caption": "x", "path": "../data-private/a.png"}
    )
    assert len(find_samples(path, outside=outside).samples) == (outside == "allow")
