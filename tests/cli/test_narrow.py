"""What fits into a narrow terminal."""

from __future__ import annotations

import io
import sys

import pytest

from ddrl.cli.terminal.progress import BarReporter, narrow_line
from ddrl.cli.terminal.tables import print_table

HEADS = ("run", "reward", "held-out loss", "verdict")
LONG = "a-long-name-of-a-run[red]\x1b[2J"
ROWS = [("base", "-3.923", "", "base"), (LONG, "-0.581", "-5.9 %", "no sign of hacking")]


class Screen(io.StringIO):
    """A terminal of so many columns."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    made = Screen()
    monkeypatch.setenv("TERM", "xterm")
    return made


def columns(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "24")


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (59, "step 3/150  reward -0.512  2m left"),
        (34, "step 3/150  reward -0.512  2m left"),
        (33, "3/150  reward -0.512  2m left"),
        (28, "3/150 r -0.51 2m"),
        (20, "3/150 r -0.51 2m"),
        (15, "3/150 2m"),
        (7, "3/150"),
        (4, "3/15"),
        (0, ""),
    ],
)
def test_the_fullest_line_that_fits(width: int, line: str) -> None:
    assert narrow_line(width, "step", 3, 150, reward=-0.512, left=125.0) == line


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (89, "89s"), (90, "2m"), (3599, "1h00m"), (11100, "3h05m"), (187200, "2d4h")],
)
def test_times_are_short(seconds: float, text: str) -> None:
    assert narrow_line(60, "step", 1, 2, left=seconds) == f"step 1/2  {text} left"


def test_what_is_not_known_is_left_out() -> None:
    assert narrow_line(60, "base", 3, None) == "base 3"
    assert narrow_line(20, "base", 300, 3000, left=10) == "300/3000  10s left"


@pytest.mark.parametrize("width", [20, 40, 59, 60, 76, 120])
def test_the_bar_is_readable_at_any_width(
    width: int, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns(monkeypatch, width)
    monkeypatch.setattr(sys, "stderr", screen)
    with BarReporter() as reporter:
        reporter.made("base", 20, 20, "loss 1")
        reporter.begin(2, 150)
        reporter.step(3, {"reward": -0.512})
        reporter.stopping()
    last = plain_lines(screen.getvalue())[-4:]
    shown = "\n".join(last)
    assert "3/150" in shown
    assert "-0.51" in shown
    assert all(len(line) <= width for line in last)
    assert ("━" * 8 in shown) == (width >= 60)
    assert ("once more" if width >= 70 else "stopping, then" if width < 60 else "saving") in shown


def plain_lines(text: str) -> list[str]:
    import re

    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    return [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()]


@pytest.mark.parametrize("width", [80, 50, 20, 5])
def test_a_table_that_does_not_fit_becomes_blocks(
    width: int, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns(monkeypatch, width)
    monkeypatch.setattr(sys, "stdout", screen)
    print_table(HEADS, ROWS, left=(0, 3))
    lines = plain_lines(screen.getvalue())
    assert "[red]" in screen.getvalue()
    if width == 80:
        assert lines[0].split() == ["run", "reward", "held-out", "loss", "verdict"]
        assert lines[2].split() == ["base", "-3.923", "base"]
        return
    assert lines[:3] == ["base", "  reward: -3.923", "  verdict: base"]
    assert max(map(len, lines)) <= max(width, 16)
    assert "held-out loss:" in " ".join(screen.getvalue().split())


def test_elsewhere_a_row_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    wide = [("x" * 300, "1", "2", "3")]
    print_table(HEADS, wide, left=(0, 3))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].split() == ["x" * 300, "1", "2", "3"]
