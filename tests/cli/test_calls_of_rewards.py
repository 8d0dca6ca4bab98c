"""How rewards are called, through the command line: in groups, beside the rollout, from a cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.command import ddrl, metrics_of

DIVERSITY = """
[[reward]]
name = "diversity"
weight = 0.5
samples_per_call = 5
"""
HELD_OUT = """
[[evaluation.reward]]
name = "diversity"
options = { size = 4 }
"""


def test_groups_are_whole_whatever_the_micro_batch(recipe: Path) -> None:
    """Eight samples of two groups in micro-batches of three; the held-out reward sees prompts."""
    text = recipe.read_text() + DIVERSITY + HELD_OUT
    for name in ("one", "few", "after"):
        recipe.write_text(text.replace(str(recipe.parent / "run"), str(recipe.parent / name)))
        overrides = {"one": [], "few": ["run.micro_batch=3"], "after": ["run.micro_batch=3"]}[name]
        if name == "after":
            overrides.append("scoring.overlap=false")
        result = ddrl("train", recipe, "run.steps=2", "evaluation.every=0", *overrides)
        assert result.code == 0, result.stderr
    one, few, after = (metrics_of(recipe.parent / name) for name in ("one", "few", "after"))
    assert few == after
    assert one[0]["reward/diversity"] == pytest.approx(few[0]["reward/diversity"], rel=1e-4)
    assert all(line["reward_max/diversity"] > line["reward_min/diversity"] > 0 for line in few)
    result = ddrl("evaluate", recipe.parent / "few", "--json")
    assert result.code == 0, result.stderr
    measure = json.loads(result.stdout)["runs"]["few"]["measures"]["diversity"]
    assert 0 < measure["value"] < 1
    assert measure["cause"] == ""


def test_a_group_level_reward_has_no_cache(recipe: Path) -> None:
    recipe.write_text(recipe.read_text() + DIVERSITY)
    result = ddrl("train", recipe, "reward.1.cache=true")
    result.failed(4, "'diversity' looks at whole groups", "set cache = false")


def test_an_audit_of_a_group_level_reward() -> None:
    result = ddrl("reward", "audit", "diversity", "--data", "digits", "--limit", "40", "--json")
    assert result.code in (0, 4), result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["num_failed"] == 0
    assert found["largest_change_alone"] < 1e-6
    assert found["range"][1] > found["range"][0] > 0
    copies = {one["name"]: one for one in found["copies"]}
    assert copies["shuffled_prompts"]["difference"] == pytest.approx(0, abs=1e-6)
    assert copies["blank"]["difference"] < 0


def test_what_a_cache_is_for(recipe: Path, tmp_path: Path) -> None:
    """A step that is made again and an evaluation that is repeated find what was scored."""
    cache = ["reward.0.cache=true", f"run.cache={tmp_path / 'cache'}"]
    assert ddrl("train", recipe, *cache).code == 0
    lines = metrics_of(recipe.parent / "run")
    assert [line["reward_cached/ink"] for line in lines] == [0.0] * 4
    again = ddrl("train", recipe, *cache, f"run.folder={tmp_path / 'again'}")
    assert again.code == 0, again.stderr
    found = metrics_of(tmp_path / "again")
    assert [line.pop("reward_cached/ink") for line in found] == [1.0] * 4
    assert [{k: v for k, v in line.items() if k != "reward_cached/ink"} for line in lines] == found


def test_a_broken_cache_is_named(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "rewards").write_text("in the way")
    result = ddrl("train", recipe, "reward.0.cache=true", f"run.cache={tmp_path / 'cache'}")
    result.failed(3, "The reward cache", "can't be used", "run.cache")
