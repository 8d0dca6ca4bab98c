from __future__ import annotations

import io
import json
import os
import tarfile
import unicodedata
from pathlib import Path

import pytest
from tests.data.making import caption, write_image, write_lines, write_video

from ddrl.data.layouts.files import Found, find_samples, usable
from ddrl.data.locators import FileLocator, content_hash
from ddrl.data.media.images import read_image
from ddrl.data.problems import BrokenFileError, ProblemKind
from ddrl.data.samples import sample_id
from ddrl.errors import DataError


def captions(found: Found) -> dict[str, str]:
    return {sample.name: sample.caption for sample in found.samples}


def kinds(found: Found) -> dict[str, ProblemKind]:
    return {problem.path: problem.kind for problem in found.problems}


def test_a_folder_in_order_and_of_any_depth(tmp_path: Path) -> None:
    caption(write_image(tmp_path / "b.PNG"), "  two\n")
    caption(write_image(tmp_path / "a" / "deep" / "x.jpeg"), "\N{BYTE ORDER MARK}one")
    caption(write_video(tmp_path / "c.v2.mp4"), "three")
    (tmp_path / ".hidden.png").write_bytes(b"x")
    (tmp_path / "notes.md").write_text("not ours")
    found = find_samples(tmp_path)
    assert captions(found) == {"a/deep/x.jpeg": "one", "b.PNG": "two", "c.v2.mp4": "three"}
    assert found.problems == ()
    assert found == find_samples(tmp_path)
    assert found.samples[0].id == sample_id("a/deep/x.jpeg")
    assert found.samples[0].media == FileLocator(tmp_path / "a" / "deep" / "x.jpeg")


def test_identities_are_stable() -> None:
    assert sample_id("cats/größe.png") == 1312916911055713492
    assert sample_id("a.png") != sample_id("b.png")
    assert 0 <= sample_id("a.png") < 2**63


def test_names_composed_and_decomposed_are_one(tmp_path: Path) -> None:
    write_image(tmp_path / unicodedata.normalize("NFD", "größe.png"))
    (tmp_path / unicodedata.normalize("NFC", "größe.txt")).write_text("a size", encoding="utf-8")
    (sample,) = find_samples(tmp_path).samples
    assert sample.caption == "a size"
    assert sample.id == sample_id("größe.png")


def test_a_name_that_is_no_text_is_still_read(tmp_path: Path) -> None:
    image = os.fsencode(write_image(tmp_path / "a.png"))
    os.rename(image, os.fsencode(tmp_path) + b"/\xff.png")
    (sample,) = usable_after_caption(tmp_path)
    assert read_image(sample).shape == (3, 16, 24)
    (tmp_path / "\udcff.txt").unlink()
    (problem,) = find_samples(tmp_path).problems
    assert problem.path == "\\xff.png"


def usable_after_caption(folder: Path) -> list[FileLocator]:
    (folder / "\udcff.txt").write_text("odd")
    return [s.media for s in find_samples(folder).samples if isinstance(s.media, FileLocator)]


def test_records_name_first_frames(tmp_path: Path) -> None:
    write_video(tmp_path / "v" / "a.mp4")
    write_image(tmp_path / "frames" / "first.png")
    record = {"caption": "moves", "first_frame": "../frames/first.png"}
    (tmp_path / "v" / "a.json").write_text(json.dumps(record))
    found = find_samples(tmp_path)
    assert found.problems == ()  # the first frame needs no caption of its own
    (sample,) = found.samples
    assert sample.given == FileLocator(tmp_path / "frames" / "first.png")
    (tmp_path / "frames" / "first.png").unlink()
    assert kinds(find_samples(tmp_path)) == {"v/a.json": "missing_first_frame"}


@pytest.mark.parametrize("record", [{}, {"caption": "other"}])
def test_a_first_frame_is_kept_beside_a_text(tmp_path: Path, record: dict[str, str]) -> None:
    for name in ("größe 猫.mp4", "z.mp4"):  # before the picture, and after it
        medium = caption(write_video(tmp_path / name), "ein Text 猫")
        medium.with_suffix(".json").write_text(json.dumps({**record, "first_frame": "m é.png"}))
    write_image(tmp_path / "m é.png", width=16, height=32)
    found = find_samples(tmp_path)
    assert captions(found) == {"größe 猫.mp4": "ein Text 猫", "z.mp4": "ein Text 猫"}
    assert [one.given for one in found.samples] == [FileLocator(tmp_path / "m é.png")] * 2
    assert not found.problems


def test_a_text_counts_before_a_record(tmp_path: Path) -> None:
    caption(write_image(tmp_path / "a.png"), "from the text")
    (tmp_path / "a.json").write_text('{"caption": "from the record"}')
    caption(write_image(tmp_path / "b.png"), "alone")
    (tmp_path / "b.json").write_text('{"width": 3}')
    assert captions(find_samples(tmp_path)) == {"a.png": "from the text", "b.png": "alone"}


@pytest.mark.parametrize(
    ("name", "content", "kind", "phrase"),
    [
        ("a.txt", b" \n", "empty_caption", "is an empty caption"),
        ("a.txt", b"caf\xe9", "caption_encoding", "is not UTF-8 (byte 3 is 0xe9)"),
        ("a.json", b"{", "bad_caption", "is no JSON"),
        ("a.json", b"[1]", "bad_caption", "is no JSON object"),
        ("a.json", b"[" * 100_000, "bad_caption", "is no JSON"),
        ("a.json", b"{}", "bad_caption", 'has no "caption"'),
        ("a.json", b'{"caption": 3}', "bad_caption", "that is no text: 3"),
        ("a.json", b'{"caption": "\\ud800"}', "bad_caption", "surrogate"),
        ("a.json", b'{"caption": "x", "first_frame": 3}', "bad_caption", "first_frame"),
    ],
)
def test_a_bad_caption_is_named(
    tmp_path: Path, name: str, content: bytes, kind: str, phrase: str
) -> None:
    write_image(tmp_path / "a.png")
    (tmp_path / name).write_bytes(content)
    found = find_samples(tmp_path)
    (problem,) = found.problems
    assert found.samples == ()
    assert (problem.path, problem.kind) == (name, kind)
    assert phrase in problem.message


def test_what_does_not_pair_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "alone.png")
    (tmp_path / "lost.txt").write_text("no media")
    (tmp_path / "film.txt").write_text("of no known kind")
    (tmp_path / "film.avi").write_bytes(b"RIFF")
    caption(write_image(tmp_path / "twice.png"))
    write_image(tmp_path / "twice.jpg")
    found = find_samples(tmp_path)
    assert kinds(found) == {
        "alone.png": "missing_caption",
        "lost.txt": "missing_media",
        "film.txt": "missing_media",
        "twice.png": "duplicate_name",
        "twice.jpg": "duplicate_name",
    }
    messages = {problem.path: problem.message for problem in found.problems}
    assert "film.avi is of no known kind" in messages["film.txt"]
    assert "twice.jpg, twice.png" in messages["twice.png"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    caption(write_image(folder / "z" / "a.png"))
    caption(write_image(elsewhere / "b.png"))
    (elsewhere / "back").symlink_to(folder, target_is_directory=True)
    (folder / "linked").symlink_to(elsewhere, target_is_directory=True)
    (folder / "again").symlink_to(folder / "z", target_is_directory=True)
    (folder / "self").symlink_to("self")
    (folder / "dangling.png").symlink_to("nowhere.png")
    os.mkfifo(folder / "pipe.png")  # opening it would wait for ever
    found = find_samples(folder, outside="allow")
    assert list(captions(found)) == ["linked/b.png", "z/a.png"]
    assert kinds(found) == {
        ".": "outside_allowed",
        "again": "duplicate_folder",
        "dangling.png": "unreadable",
        "linked/back": "symlink_loop",
        "pipe.png": "unreadable",
        "self": "symlink_loop",
    }


def test_a_list(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.png")
    write_image(tmp_path / "images" / "b.png")
    path = write_lines(
        tmp_path / "list.jsonl",
        {"caption": "one", "path": "images/a.png", "first_frame": "images/b.png"},
        {"caption": "one again", "path": "images/a.png"},
        {"caption": "one", "path": "images/a.png"},
        {"caption": "gone", "path": "images/c.png"},
        {"caption": "", "path": "images/b.png"},
        {"caption": "strange", "path": "images/b.bmp"},
        {"caption": "no path"},
        {"caption": "x", "path": "images/b.png", "first_frame": "no.png"},
    )
    with path.open("ab") as file:
        file.write(b'\n{"caption": "caf\xe9", "path": "images/b.png"}\nno json\n')
    found = find_samples(path)
    assert {sample.caption for sample in found.samples} == {"one", "one again"}
    assert len({sample.id for sample in found.samples}) == 2
    assert sample_id("images/a.png") in {sample.id for sample in found.samples}
    assert kinds(found) == {
        "list.jsonl:3": "duplicate_name",
        "list.jsonl:4": "missing_media",
        "list.jsonl:5": "empty_caption",
        "list.jsonl:6": "wrong_extension",
        "list.jsonl:7": "bad_line",
        "list.jsonl:8": "missing_first_frame",
        "list.jsonl:10": "caption_encoding",
        "list.jsonl:11": "bad_caption",
    }
    assert find_samples(tmp_path).samples == found.samples  # the folder that holds the list


def test_a_list_may_say_prompt_and_more_of_it(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    record = {"prompt": "two benches", "path": "a.png", "first_frame": "a.png", "tag": "counting"}
    (sample,) = find_samples(write_lines(tmp_path / "list.jsonl", record)).samples
    assert (sample.caption, sample.metadata) == ("two benches", {"tag": "counting"})


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_shard(path: Path, folder: Path) -> bytes:
    image = write_image(folder / "picture.png").read_bytes()
    with tarfile.open(path, "w") as archive:
        add(archive, "000.png", image)
        add(archive, "000.txt", b"zero")
        add(archive, "001.json", b'{"caption": "one", "first_frame": "001.start.png"}')
        add(archive, "001.start.png", image)
        add(archive, "sub/002.txt", b"alone")
        add(archive, "003.png", image)
        add(archive, "003.txt", b"three")
    return image


def test_shards(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    image = write_shard(tmp_path / "shards" / "a.tar", tmp_path)
    found = find_samples(tmp_path / "shards")
    assert captions(found) == {
        "a.tar/000.png": "zero",
        "a.tar/001.start.png": "one",
        "a.tar/003.png": "three",
    }
    assert kinds(found) == {"a.tar/sub/002.txt": "missing_media"}
    first = found.samples[0]
    assert first.media.open().read() == image
    assert content_hash(first.media) == content_hash(tmp_path / "picture.png")
    assert read_image(first.media).shape == (3, 16, 24)
    assert [s.id for s in find_samples(tmp_path / "shards" / "a.tar").samples] == [
        s.id for s in found.samples
    ]


def test_a_truncated_shard_is_named_and_read_as_far_as_it_goes(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", tmp_path)
    whole = find_samples(tmp_path / "a.tar").samples
    content = (tmp_path / "a.tar").read_bytes()
    # Within a member, within a header, at a header, and where only the end mark is gone.
    for size, num_samples in [(3600, 2), (3300, 1), (2048, 1), (7168, 3)]:
        (tmp_path / "a.tar").write_bytes(content[:size])
        found = find_samples(tmp_path / "a.tar")
        assert kinds(found)["a.tar"] == "broken_shard"
        assert len(found.samples) == num_samples
        assert found.samples[0] == whole[0]
    (tmp_path / "a.tar").write_bytes(b"no archive at all")
    assert kinds(find_samples(tmp_path / "a.tar")) == {"a.tar": "broken_shard"}
    with pytest.raises(BrokenFileError, match="cut off, because its shard is"):
        whole[0].media.open()


def test_a_data_set_that_is_not_there_or_not_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no data at"):
        find_samples(tmp_path / "none")
    with pytest.raises(DataError, match="is no data set"):
        find_samples(write_image(tmp_path / "a.png"))
    with pytest.raises(DataError, match="is no folder"):
        find_samples(tmp_path / "a.png", layout="folder")
    with pytest.raises(DataError, match=r"has no \.tar file"):
        find_samples(tmp_path, layout="shards")
    write_shard(tmp_path / "a.tar", tmp_path)
    assert len(find_samples(tmp_path).samples) == 3  # a picture without a caption is no data set
    caption(tmp_path / "a.png")
    with pytest.raises(DataError, match="in more than one way: as shards or folder") as caught:
        find_samples(tmp_path)
    assert 'data.layout = "shards"' in caught.value.hint
    assert len(find_samples(tmp_path, layout="shards").samples) == 3
    assert list(captions(find_samples(tmp_path, layout="folder"))) == ["a.png"]


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"no captioned media file.*a\.png: has no caption"):
        usable(find_samples(tmp_path), on_broken="skip")
