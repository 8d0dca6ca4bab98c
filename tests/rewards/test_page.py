"""The pages about rewards: the cards are those of the code, and the examples are rewards."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.cli.command import ddrl
from tests.rewards.rendering import prompts

from ddrl.recipe.sections.rewards import RewardSection
from ddrl.rewards.base import BUILTIN, SampleError, make_reward
from ddrl.rewards.markdown import cards_page
from ddrl.testing.rewards import check_reward

DOCS = Path(__file__).parents[2] / "docs"
PAGE, HOWTO = DOCS / "rewards.md", DOCS / "howto" / "reward.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str, page: Path = PAGE) -> list[str]:
    return [code for kind, code in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def test_the_page_has_every_card() -> None:
    made = cards_page()
    assert made in (DOCS / "reward-cards.md").read_text("utf-8"), "run docs/generate.py"
    assert re.findall(r"^## `(\w+)`$", made, re.MULTILINE) == list(BUILTIN)


def test_every_option_is_described() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.*) \|$", cards_page(), re.MULTILINE)
    assert len(rows) > 30
    assert [name for name, _, text in rows if not text] == []
    assert {"required", '`"mean"`', "`false`", "`0.5`"} <= {default for _, default, _ in rows}


def test_the_example_is_a_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, test = blocks("python", HOWTO)
    (tmp_path / "colour.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        names: dict[str, Callable[[], None]] = {}
        exec(compile(test, HOWTO.name, "exec"), names)
        names["test_the_contract"]()
        media = torch.rand((3, 3, 8, 8), generator=torch.Generator().manual_seed(0))
        with pytest.raises(SampleError, match="sample 1: the prompt does not name one colour"):
            make_reward("colour:Colour", {}).score(
                media, prompts("a red car", "a car", "a red sky")
            )
    finally:
        sys.modules.pop("colour", None)


def test_the_audit_finds_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "colour.py").write_text(blocks("python", HOWTO)[0])
    monkeypatch.chdir(tmp_path)
    try:
        done = ddrl("reward", "audit", "colour:Colour", "--data", "words")
    finally:
        sys.modules.pop("colour", None)
    found = [line for line in done.stdout.splitlines() if line.startswith("problem: ")]
    assert len(found) == 2, done.stdout
    assert "have no score: the prompt does not name one colour" in found[0]
    assert "prefers saturated colours" in found[1]


def test_the_example_of_whole_groups_is_a_reward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = (code for code in blocks("python") if "class Unlike" in code)
    (tmp_path / "my_groups_of_the_page.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    media = torch.rand((6, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    check_reward(make_reward("my_groups_of_the_page:Unlike", {}), media, prompts(*"aaabbb"))
    del sys.modules["my_groups_of_the_page"]


def test_the_recipes_are_some() -> None:
    recipe, remote, *_ = (tomllib.loads(code) for code in blocks("toml"))
    (section,) = [RewardSection.model_validate(row) for row in remote["reward"]]
    assert section.timeout == 300
    assert section.retries == 3
    assert section.samples_per_call == 8
    sections = [RewardSection.model_validate(row) for row in recipe["reward"]]
    assert [section.name for section in sections] == ["ocr", "pickscore"]
    assert sections[1].options["device"] == "cuda:1"
