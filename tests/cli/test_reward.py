from __future__ import annotations

import json
from importlib.metadata import EntryPoint

import pytest
from tests.cli.command import ddrl

from ddrl.rewards import base, catalog
from ddrl.rewards.base import BUILTIN
from ddrl.rewards.card import RewardCard


def states() -> dict[str, str]:
    result = ddrl("reward", "list", "--json")
    assert result.code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["format"] == "ddrl-rewards/1"
    return {row["name"]: f"{row['state']}: {row['todo']}" for row in report["rewards"]}


def test_every_builtin_one_is_listed_with_its_card() -> None:
    result = ddrl("reward", "list")
    assert result.code == 0, result.stderr
    heads = [line.split()[0] for line in result.stdout.splitlines() if line[:1].strip()]
    assert heads == sorted(BUILTIN)
    assert result.stdout.count("  known hacks: ") == len(BUILTIN)
    assert "`" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_as_json() -> None:
    report = json.loads(ddrl("reward", "list", "--json").stdout)
    ocr = next(row for row in report["rewards"] if row["name"] == "ocr")
    assert ocr["path"] == BUILTIN["ocr"]
    assert ocr["card"]["modules"] == ["rapidocr", "onnxruntime"]
    assert ocr["card"]["media"] == ["images", "clips"]
    assert ocr["state"] == "ready"


def test_weights_are_asked_of_the_hubs_cache_only(monkeypatch: pytest.MonkeyPatch) -> None:
    found = states()
    assert found["ink"] == "ready: "
    assert found["clip"].startswith("needs weights: option `weights`")
    monkeypatch.setattr(catalog, "_is_cached", lambda hub: hub == "KwaiVGI/VideoReward")
    found = states()
    assert found["pickscore"].startswith("needs weights: yuvalkirstain/PickScore_v1 is downloaded")
    assert found["video_align"] == "ready: "


def test_what_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"ocr": ("onnxruntime",)}
    monkeypatch.setattr(RewardCard, "missing_modules", lambda card: missing.get(card.extra, ()))
    assert states()["ocr"] == "not installed: onnxruntime: pip install 'ddrl[ocr]'"


def test_rewards_of_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(*, group: str) -> list[EntryPoint]:
        paths = {"mine": "tests.rewards.planted:Planted", "worn": "no_such_package:Reward"}
        return [EntryPoint(name, path, group) for name, path in paths.items()]

    monkeypatch.setattr(base, "entry_points", entry_points)
    monkeypatch.setattr(catalog, "entry_points", entry_points)
    found = states()
    assert found["mine"] == "ready: "  # it has no card, and nothing is known against it
    assert found["worn"].startswith("broken: Reward 'worn' can't be loaded: No module named")
    assert "worn  broken\n  lacks: Reward 'worn' can't" in ddrl("reward", "list").stdout


def test_help_and_no_command() -> None:
    assert "list" in ddrl("reward").stdout
    assert ddrl("reward", "--help").code == 0
    ddrl("reward", "lst").failed(2)
