"""Pipes, devices, folders and endless files under the names of data are named, and not read."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from tests.data.making import caption, write_image, write_lines

from ddrl.data.check import check
from ddrl.data.layouts.files import find_samples, usable
from ddrl.data.layouts.prompts import read_prompts
from ddrl.data.locators import MAX_TEXT, TarLocator
from ddrl.errors import DataError

TIB = 1 << 40


@pytest.mark.parametrize("name", ["a.jsonl", "a.tar", "a.parquet", "a.arrow"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("in_folder", [False, True])
def test_no_pipe_or_device_is_read_as_a_data_set(
    tmp_path: Path, name: str, kind: str, in_folder: bool
) -> None:
    if kind == "pipe":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"no regular file|leads out of the data set"):
        usable(find_samples(tmp_path if in_folder else tmp_path / name), on_broken="stop")


@pytest.mark.parametrize("name", ["a.txt", "a.json", "a.png", "b.mp4"])
def test_no_pipe_is_read_as_a_file_of_a_folder(tmp_path: Path, name: str) -> None:
    for one in ("a.png", "b.mp4"):
        caption(write_image(tmp_path / one) if one.endswith("png") else tmp_path / one)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    kinds = {problem.path: problem.kind for problem in check(tmp_path).broken}
    assert kinds[name] == "unreadable"


def test_prompts_come_from_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "prompts.txt")
    with pytest.raises(DataError, match="no regular file"):
        read_prompts(tmp_path / "prompts.txt", on_broken="stop")


def test_a_folder_under_the_name_of_a_table_or_shard_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "cats.parquet").mkdir()
    (tmp_path / "old.tar").mkdir()
    cells = pa.array([write_image(tmp_path / "old.tar" / "a.png").read_bytes()])
    table = pa.table({"caption": ["a cat"], "image": cells})
    parquet.write_table(table, tmp_path / "cats.parquet" / "part-0.parquet")
    found = find_samples(tmp_path)
    assert [sample.name for sample in found.samples] == ["cats.parquet/part-0.parquet:0"]


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header whose size is written as GNU tar writes large ones, or negative ones."""
    member = tarfile.TarInfo(name)
    member.type = kind
    content = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    content[124:136] = (b"\x80" if size >= 0 else b"\xff") + (size % (1 << 88)).to_bytes(11, "big")
    content[148:156] = b" " * 8
    content[148:156] = f"{sum(content):06o}\0 ".encode()
    return bytes(content)


@pytest.mark.parametrize("size", [8 * TIB, 1 << 62, (1 << 63) - 1, 1 << 70, -512, -5120])
@pytest.mark.parametrize(
    "kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME]
)
@pytest.mark.parametrize("name", ["a.txt", "a.png"])
def test_a_header_that_claims_too_much_is_a_broken_shard(
    tmp_path: Path, size: int, kind: bytes, name: str
) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(write_image(tmp_path / "good.png"), "good.png")
        text = tarfile.TarInfo("good.txt")
        text.size = 3
        archive.addfile(text, io.BytesIO(b"cat"))
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"cat") + 512] + header(name, size, kind) + b"x" * 700)
    report = check(path)
    assert report.num_images == 1
    assert "broken_shard" in report.broken_by_kind


def test_headers_without_end_are_a_broken_shard(tmp_path: Path) -> None:
    one = header("x", 1, tarfile.GNUTYPE_LONGNAME) + b"n".ljust(512, b"\0")
    (tmp_path / "a.tar").write_bytes(one * 20_000)
    report = check(tmp_path / "a.tar")
    assert report.broken_by_kind == {"broken_shard": 1}


def test_a_member_that_ends_behind_the_archive_is_broken(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(header("a.png", 8 * TIB) + b"x" * 512)
    member = TarLocator(tmp_path / "a.tar", "a.png", 512, 8 * TIB)
    with pytest.raises(DataError, match="is cut off, because its shard is"):
        member.open()


def test_a_member_is_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"before" + b"0123456789" + b"after")
    with TarLocator(tmp_path / "a.tar", "m", 6, 10).open() as file:
        assert file.read(3) == b"012"
        assert file.tell() == 3
        assert file.read() == b"3456789"
        assert file.read() == b""
        assert file.seek(-4, os.SEEK_END) == 6
        assert file.read(100) == b"6789"
        assert file.seek(-2, os.SEEK_CUR) == 8
        assert file.read() == b"89"
        file.seek(50)
        assert file.read() == b""


def test_an_archive_with_holes_of_terabytes_is_looked_at_only(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        file.write(header("a.png", 8 * TIB))
        file.seek(512 + 8 * TIB)
        file.write(header("a.txt", 4 * TIB))
        file.truncate(1024 + 12 * TIB)
    report = check(path)
    assert not report.num_samples
    kinds = {problem.path: problem.kind for problem in report.broken}
    assert kinds["a.tar/a.txt"] == "bad_caption"


@pytest.mark.parametrize("suffix", [".txt", ".json"])
@pytest.mark.parametrize("in_shard", [False, True])
def test_a_caption_is_no_longer_than_a_mebibyte(
    tmp_path: Path, suffix: str, in_shard: bool
) -> None:
    folder = tmp_path / "data"
    for number, more in enumerate((0, 1)):
        write_image(folder / f"{number}.png")
        around = len(json.dumps({"caption": ""})) if suffix == ".json" else 0
        text = "x" * (MAX_TEXT + more - around)
        content = json.dumps({"caption": text}) if suffix == ".json" else text
        (folder / f"{number}{suffix}").write_text(content)
    place = folder
    if in_shard:
        place = tmp_path / "a.tar"
        with tarfile.open(place, "w") as archive:
            for path in folder.iterdir():
                archive.add(path, path.name)
    found = find_samples(place)
    assert [Path(sample.name).name for sample in found.samples] == ["0.png"]
    (problem,) = found.problems
    assert (Path(problem.path).name, problem.kind) == (f"1{suffix}", "bad_caption")
    assert "longer than 1 MiB" in problem.message


def test_a_line_without_end_is_named(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "list.jsonl", {"caption": "one", "path": "a.png"})
    write_image(tmp_path / "a.png")
    with path.open("ab") as file:
        file.truncate(8 * TIB)  # zeros, which take no space
    found = find_samples(path)
    assert len(found.samples) == 1
    assert [(p.path, p.kind) for p in found.problems] == [("list.jsonl:2", "bad_caption")]
    with pytest.raises(DataError, match="longer than 1 MiB"):
        read_prompts(path, on_broken="stop")


def test_a_line_of_the_limit_is_read_and_lines_end_as_they_do(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    long = b"x" * MAX_TEXT
    path.write_bytes(b"\xef\xbb\xbfone\r\n\n" + long + b"\n" + long[:-1] + b"\r\n" + b"last")
    assert [len(text) for text in read_prompts(path, on_broken="stop")] == [
        *(3, MAX_TEXT, MAX_TEXT - 1, 4)
    ]


def test_a_caption_of_a_table_is_no_longer_than_a_mebibyte(tmp_path: Path) -> None:
    content = write_image(tmp_path / "a.png").read_bytes()
    table = pa.table({"caption": ["x" * (MAX_TEXT + 1), "cat"], "image": [content, content]})
    parquet.write_table(table, tmp_path / "t.parquet")
    found = find_samples(tmp_path / "t.parquet")
    assert [sample.caption for sample in found.samples] == ["cat"]
    assert [problem.kind for problem in found.problems] == ["bad_caption"]


def test_a_table_with_a_false_footer_is_a_data_error(tmp_path: Path) -> None:
    table = pa.table({"caption": ["cat"] * 50, "image": [b"x" * 50] * 50})
    parquet.write_table(table, tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    refused = 0
    for place in range(4, len(whole) - 8, 7):
        spoilt = bytearray(whole)
        spoilt[place : place + 4] = struct.pack("<I", 0xFFFFFF7F)
        (tmp_path / "t.parquet").write_bytes(spoilt)
        try:
            for sample in find_samples(tmp_path / "t.parquet").samples[:1]:
                sample.media.open().close()
        except DataError:
            refused += 1
    assert refused > 10
