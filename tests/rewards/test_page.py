"""The page about rewards: its cards are those of the code, and its example is a reward."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from tests.rewards.rendering import prompts

from ddrl.recipe.sections.rewards import RewardSection
from ddrl.rewards.base import BUILTIN, SampleError, make_reward
from ddrl.rewards.markdown import cards_page
from ddrl.testing.rewards import check_reward

PAGE = Path(__file__).parents[2] / "docs" / "rewards.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [code for kind, code in BLOCK.findall(PAGE.read_text("utf-8")) if kind == language]


def test_the_page_has_every_card() -> None:
    made = cards_page()
    assert made in PAGE.read_text("utf-8"), "run docs/generate.py"
    assert re.findall(r"^### `(\w+)`$", made, re.MULTILINE) == list(BUILTIN)


def test_every_option_is_described() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.*) \|$", cards_page(), re.MULTILINE)
    assert len(rows) > 30
    assert [name for name, _, text in rows if not text] == []
    assert {"required", '`"mean"`', "`false`", "`0.5`"} <= {default for _, default, _ in rows}


def test_the_example_is_a_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = blocks("python")[0]
    (tmp_path / "my_reward_of_the_page.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    reward = make_reward("my_reward_of_the_page:Redness", {"scale": 2.0})
    media = torch.rand((3, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    check_reward(reward, media, prompts("a red car", "red", "a red sky"))
    with pytest.raises(SampleError, match="sample 1: the prompt does not say red"):
        reward.score(media, prompts("a red car", "a car", "a red sky"))
    del sys.modules["my_reward_of_the_page"]


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
