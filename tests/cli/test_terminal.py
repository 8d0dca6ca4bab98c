"""What strangers name or say comes to the terminal as text, and never as a line of its own."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from tests.cli.command import ddrl
from tests.data.making import caption, cut, write_image, write_lines

from ddrl.cli.terminal.output import _Formatter, say_json
from ddrl.errors import DataError

EVIL = "a\x1b[2J\x1b]0;owned\x07\nerror: all is well\r\u202e\u2066\x9b31m\u2028.png"
SHOWN = r"a\x1b[2J\x1b]0;owned\x07\nerror: all is well\r\u202e\u2066\x9b31m\u2028.png"


def assert_plain(text: str) -> None:
    assert all(line.isprintable() for line in text.split("\n")), text
    assert not any(line.startswith("error: all is well") for line in text.split("\n"))


def test_names_of_files_in_a_check(tmp_path: Path) -> None:
    caption(write_image(tmp_path / "good.png"))
    caption(cut(write_image(tmp_path / EVIL)))
    result = ddrl("data", "check", tmp_path)
    assert result.code == DataError.exit_code
    assert SHOWN in result.stdout
    assert_plain(result.stdout + result.stderr)
    numbers = ddrl("data", "check", tmp_path, "--json")
    assert_plain(numbers.stdout)
    assert json.loads(numbers.stdout)["problems"][0]["path"] == SHOWN


def test_names_in_lists_and_of_the_data_set_itself(tmp_path: Path) -> None:
    folder = tmp_path / EVIL.replace(".png", "")
    folder.mkdir()
    write_lines(folder / "list.jsonl", {"caption": "x", "path": EVIL})
    for arguments in (("data", "check", folder), ("data", "check", folder / EVIL)):
        result = ddrl(*arguments)
        assert result.code == DataError.exit_code
        assert_plain(result.stdout + result.stderr)


@pytest.mark.parametrize("command", ["train", "sample", "evaluate", "export"])
def test_names_of_recipes_and_runs(tmp_path: Path, command: str) -> None:
    result = ddrl(command, tmp_path / EVIL)
    assert result.code == 2
    assert_plain(result.stdout + result.stderr)
    assert r"\x1b[2J" in result.stderr


def test_an_unknown_option_is_shown_as_text() -> None:
    result = ddrl("train", "--\x1b[31m\nx")
    assert result.code == 2
    assert_plain(result.stderr)


def record(name: str, message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.WARNING, "", 0, message, arguments, None)


def test_a_line_of_the_log_is_one_line() -> None:
    assert (
        _Formatter().format(record("ddrl.data", "skipped %s", EVIL)) == f"warning: skipped {SHOWN}"
    )
    long = _Formatter().format(record("ddrl.rewards", "%s", "x" * 1_000_000))
    assert len(long) < 5000


def test_lines_of_others_do_not_pass_for_ours() -> None:
    text = _Formatter().format(record("other", "one\nerror: two\x1b[0m"))
    assert text == "warning: one\n    error: two\\x1b[0m"


def test_json_on_a_terminal_is_the_same_json(capsys: pytest.CaptureFixture[str]) -> None:
    value = {EVIL: ["größe \x7f\x85\U000e0041", {"x": 1.5}]}
    say_json(json.dumps(value, indent=1, ensure_ascii=False))
    shown = capsys.readouterr().out
    assert_plain(shown)
    assert "größe" in shown
    assert json.loads(shown) == value


def test_a_bug_of_ours_shows_no_strangers_controls(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(EVIL)

    monkeypatch.setattr("ddrl.data.check.check", fail)
    result = ddrl("data", "check", ".")
    assert result.code == 1
    # Its own traceback has lines; none of them acts on the terminal.
    assert all(line.isprintable() for line in result.stderr.split("\n"))
