"""The tutorial's commands do what its page says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.tutorial import PAGE, follow, steps
from tests.cli.command import ROOT, ddrl

TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
RESULT = json.loads((ROOT / "benchmarks/results/tutorial.json").read_text(encoding="utf-8"))


def test_what_the_page_shows_is_of_its_commands() -> None:
    assert list(RESULT["printed"]) == [body for what, body in steps(TEXT) if what == "$"]
    assert [what for what, _ in steps(TEXT) if what != "$"] == ["edges.py"]


def test_the_commands_that_take_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for what, body in steps(TEXT):
        if what != "$":
            (tmp_path / what).write_text(body, encoding="utf-8")
            continue
        _, *words = body.split()
        if words[0] == "train" and "--dry-run" not in words:
            words.append("--dry-run")
        if words[0] in {"train", "explain", "recipe"}:
            result = ddrl(*words)
            assert result.code == 0, result.stderr
            if "--dry-run" not in words:
                assert result.stdout.rstrip().splitlines() == RESULT["printed"][body]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_page(tmp_path: Path) -> None:
    printed = follow(TEXT, tmp_path)
    said = {command: lines[-1] for command, lines in printed.items() if " evaluate " in command}
    assert list(said.values()) == [
        "DDRL: no sign of hacking. No regularizer: hacked.",
        "DDRL: no sign of hacking. No regularizer: hacked.",
    ]
