"""Prompts of a text file or a list, and what is wrong with some."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from tests.data.making import write_lines

from ddrl.data.layouts.prompts import read_prompts
from ddrl.errors import DataError


def write(folder: Path, content: bytes, name: str = "prompts.txt") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_a_prompt_a_line(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeffa cat\r\n\n  a d\u00f6g \n \t\na cow, running".encode())
    assert tuple(read_prompts(path, on_broken="stop")) == ("a cat", "a d\u00f6g", "a cow, running")


def test_a_list_of_captions(tmp_path: Path) -> None:
    content = b'{"caption": "a cat", "path": "there/is/none.png"}\n\n{"caption": " a dog "}\n'
    path = write(tmp_path, content, "prompts.jsonl")
    assert tuple(read_prompts(path, on_broken="stop")) == ("a cat", "a dog")


def test_a_list_is_one_however_its_suffix_is_written(tmp_path: Path) -> None:
    path = write(tmp_path, b'{"caption": "a cat"}\n', "PROMPTS.JSONL")
    assert tuple(read_prompts(path, on_broken="stop")) == ("a cat",)


def test_other_keys_of_a_list_are_metadata(tmp_path: Path) -> None:
    benches: dict[str, object] = {"tag": "counting", "include": [{"class": "bench", "count": 2}]}
    path = write_lines(
        tmp_path / "prompts.jsonl",
        {**benches, "prompt": "two benches"},
        {"prompt": " two benches", "include": benches["include"], "tag": "counting"},
        {"caption": "a cat", "text": "cat", "path": "a.png", "first_frame": "b.png"},
        {"caption": "a dog", "prompt": "is passed over"},
    )
    wanted = {"two benches": benches, "a cat": {"text": "cat"}, "a dog": {}}
    assert read_prompts(path, on_broken="stop") == wanted


def test_a_text_file_has_no_metadata(tmp_path: Path) -> None:
    path = write(tmp_path, b'a cat\n{"prompt": "a dog", "tag": "counting"}\n')
    assert list(read_prompts(path, on_broken="stop").values()) == [{}, {}]


def test_duplicates_count_once_and_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, b"a cat\na dog\na cat\n a cat \n")
    with caplog.at_level(logging.WARNING, "ddrl"):
        assert tuple(read_prompts(path, on_broken="stop")) == ("a cat", "a dog")
    assert "1 of 2 prompts are in" in caplog.text
    assert "'a cat'" in caplog.text


BROKEN = [
    ("prompts.txt", b"a cat\ncaf\xe9\n", "prompts.txt:2: is not UTF-8 (byte 3 is 0xe9)"),
    ("prompts.jsonl", b'{"caption": "a cat"}\na dog\n', "prompts.jsonl:2: is no JSON"),
    ("prompts.jsonl", b'{"caption": "a cat"}\n{"title": "x"}', 'prompts.jsonl:2: has no "caption"'),
    ("prompts.jsonl", b'{"caption": "a cat"}\n{"caption": ""}', "2: is an empty caption"),
    (
        "prompts.jsonl",
        b'{"prompt": "a cat", "tag": "a"}\n{"caption": "a cat ", "tag": "b"}\n',
        "prompts.jsonl:2: has the prompt 'a cat' again, with other metadata",
    ),
]


@pytest.mark.parametrize(("name", "content", "phrase"), BROKEN)
def test_a_broken_line_stops_or_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, content: bytes, phrase: str
) -> None:
    path = write(tmp_path, content, name)
    with pytest.raises(DataError) as caught:
        read_prompts(path, on_broken="stop")
    assert phrase in caught.value.message
    with caplog.at_level(logging.WARNING, "ddrl"):
        assert tuple(read_prompts(path, on_broken="skip")) == ("a cat",)
    assert phrase in caplog.text


@pytest.mark.parametrize("content", [b"", b"\n  \n", b"\xef\xbb\xbf\n"])
def test_no_prompt_at_all(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="There is no prompt in"):
        read_prompts(write(tmp_path, content), on_broken="stop")


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(DataError, match="can't be read") as caught:
            read_prompts(path, on_broken="stop")
        assert "data.path" in caught.value.hint
