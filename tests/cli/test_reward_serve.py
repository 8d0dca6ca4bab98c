"""`ddrl reward serve` with what can't be served; what can is served in tests/rewards."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.cli.command import ddrl

REWARD = '[[reward]]\nname = "ink"\n'


@pytest.mark.parametrize(
    ("text", "phrase", "hint"),
    [
        ('[serve]\ntoken_env = "NOT_SET_AT_ALL"\n', "variable NOT_SET_AT_ALL, which", "export NOT"),
        (
            '[serve]\nmodules = ["none"]\n',
            "names none, which is no folder and no .py",
            "paths start",
        ),
        (
            "[serve]\nprot = 8\n",
            "rewards.toml:2: Unknown key serve.prot",
            "did you mean serve.port?",
        ),
    ],
)
def test_a_fault_of_the_file_is_found_before_anything_starts(
    tmp_path: Path, text: str, phrase: str, hint: str
) -> None:
    file = tmp_path / "rewards.toml"
    file.write_text(text + REWARD)
    ddrl("reward", "serve", file).failed(2, phrase, hint)


def test_without_ray_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.serve", None)
    file = tmp_path / "rewards.toml"
    file.write_text(REWARD)
    ddrl("reward", "serve", file).failed(4, "needs Ray Serve", "pip install 'ddrl[serve]'")
