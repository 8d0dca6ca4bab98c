"""Errors carry strangers' text as one line that a terminal only shows."""

from __future__ import annotations

import unicodedata

import pytest

from ddrl.errors import DDRLError, printable

UNSAFE = [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F)]
UNSAFE += [*range(0x2066, 0x206A), 0xFEFF, 0xD800, 0xDC00, 0xDFFF, 0xE0041]


@pytest.mark.parametrize("code", UNSAFE, ids=hex)
def test_what_could_act_on_a_terminal_becomes_an_escape(code: int) -> None:
    shown = printable(f"a{chr(code)}b")
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.startswith("a\\")
    assert shown.endswith("b")


def test_escapes_say_which_character_it_was() -> None:
    assert printable("\x1b[31m\n\t\x9b") == r"\x1b[31m\n\t\x9b"
    assert printable("\u202egnp.exe") == r"\u202egnp.exe"
    assert printable("\ud800") == r"\ud800"


def test_bytes_of_a_file_name_that_are_not_utf8_are_shown_as_bytes() -> None:
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    assert printable(name) == r"caf\xe9.png"


def test_text_of_any_script_stays_as_it_is() -> None:
    # Persian with a non-joiner, an emoji of joined parts, decomposed letters, a Windows path.
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    persian = "\u0645\u06cc\u200c\u062e\u0648"
    for text in (persian, "数字の七", family, "cafe\u0301", r"C:\new\x1b", " a  b "):
        assert printable(text) == text


def test_no_control_or_separator_is_left_of_all_of_unicode() -> None:
    shown = printable("".join(map(chr, range(0x110000))))
    left = {unicodedata.category(character) for character in set(shown)}
    assert not left & {"Cc", "Cs", "Zl", "Zp"}


def test_twice_is_as_once() -> None:
    once = printable("\x1b]0;title\x07\n")
    assert printable(once) == once


@pytest.mark.parametrize("text", ["x" * 11, "\n" * 6, "x" * 10_000_000])
def test_long_text_is_cut(text: str) -> None:
    shown = printable(text, limit=10)
    assert len(shown) == 10
    assert shown.endswith("...")


def test_text_of_the_limit_is_whole() -> None:
    assert printable("x" * 10, limit=10) == "x" * 10


def test_an_error_never_makes_a_second_line() -> None:
    error = DDRLError("a\nerror: b\x1b[2J is broken.", hint="rm\r\n-rf " + "y" * 3000)
    assert error.message == r"a\nerror: b\x1b[2J is broken."
    assert error.args == (error.message,)
    assert error.hint.startswith(r"rm\r\n-rf yyy")
    assert len(error.hint) == 2000
    assert len(str(error).split("\n")) == 2
