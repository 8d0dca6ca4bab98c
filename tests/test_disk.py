"""Only regular files are read; what is written is whole, with the mode that the umask gives."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ddrl.disk import (
    BESIDE,
    file_stem,
    folder_beside,
    open_regular,
    read_regular,
    replace_file,
    settle,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and modes of POSIX")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one, tempfile.TemporaryDirectory() as short:
        one.bind(f"{short}/s")  # the path of a socket may have a hundred characters
        Path(f"{short}/s").rename(path)


def make_link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_link_to_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


@pytest.mark.parametrize(
    "make", [make_pipe, make_socket, make_link_to_device, make_link_to_pipe, Path.mkdir]
)
def test_what_is_no_regular_file_is_refused_and_not_waited_for(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "a.png"
    make(path)
    with pytest.raises(OSError, match="it is a") as caught:
        open_regular(path)
    assert caught.value.strerror


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link") == b"abc"


def test_a_file_above_the_limit_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(8 << 40)  # takes no space
    with pytest.raises(OSError, match="larger than 64 MiB"):
        read_regular(path)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
@pytest.mark.parametrize("old_mode", [None, 0o600, 0o666])
def test_a_file_has_the_mode_that_the_umask_gives(
    tmp_path: Path, mask: int, mode: int, old_mode: int | None
) -> None:
    path = tmp_path / "a"
    if old_mode is not None:
        path.touch()
        path.chmod(old_mode)

    def write(beside: Path) -> None:  # as a library does that makes files by tempfile
        beside.touch(mode=0o600)

    for content in (b"bytes", "text", write):
        with umask(mask):
            replace_file(path, content)
            assert os.umask(mask) == mask
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_failure_keeps_the_old_file_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def fail(beside: Path) -> None:
        beside.write_text("half")
        assert beside.name.startswith(BESIDE)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_put_in_its_place_whole_with_the_modes_of_the_umask(tmp_path: Path) -> None:
    place = tmp_path / "new" / "a"
    (half := tmp_path / "new" / f"{BESIDE}7").mkdir(parents=True)
    (half / "old").touch()
    with umask(0o027), folder_beside(place, name="7") as beside:
        assert beside == half
        (beside / "in").mkdir()
        (beside / "in" / "file").touch(mode=0o600)
        settle(beside)
        beside.rename(place)
    assert [path.relative_to(place).as_posix() for path in place.rglob("*")] == ["in", "in/file"]
    assert stat.S_IMODE((place / "in" / "file").stat().st_mode) == 0o640
    assert list(place.parent.iterdir()) == [place]


def test_a_folder_that_fails_leaves_nothing_beside(tmp_path: Path) -> None:
    def fail() -> None:
        with folder_beside(tmp_path / "a") as beside:
            (beside / "half").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    replace_file(tmp_path / "a", "größe\n\r\n")
    assert (tmp_path / "a").read_bytes() == "größe\n\r\n".encode()


def test_a_name_of_any_length_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_stem_has_the_letters_of_its_text_with_their_marks() -> None:
    for text in ("हिन्दी", "ภาษาไทย", "עִבְרִית", "größe", "семь", "数字の七", "한국어"):
        assert file_stem(text) == file_stem(unicodedata.normalize("NFD", text))
        assert unicodedata.normalize("NFD", file_stem(text)) == unicodedata.normalize("NFD", text)
    assert file_stem("A cat, 3x!") == "a-cat-3x"
    assert file_stem("beta 0.1", also=".") == "beta-0.1"


@pytest.mark.parametrize(
    ("text", "stem"),
    [
        *(("", ""), ("!?", ""), ("\u0301\ufe0f", ""), ("a\ud800b", "a-b"), ("a/\\:*?\0b", "a-b")),
        *(("../\x1b[2J/\u202e", "2j"), ("-a- ", "a"), ("\u200d\u0301x", "x"), ("İ", "i̇")),
    ],
)
def test_a_stem_holds_nothing_that_a_file_system_refuses(text: str, stem: str) -> None:
    assert file_stem(text) == stem


@pytest.mark.parametrize("text", ["猫" * 300, "\U00020000" * 300, "a" * 300, "e\u0328\u0301" * 300])
def test_a_stem_is_short_and_whole(text: str) -> None:
    stem = file_stem(text, limit=100)
    assert 0 < len(stem.encode()) <= 120
    assert stem == file_stem(stem, limit=100)
