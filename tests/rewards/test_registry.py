"""A reward is found by name, and its options are strict."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from tests.rewards.planted import Planted

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards import base
from ddrl.rewards.base import BUILTIN, make_reward, reward_class
from ddrl.rewards.builtin.ink import Ink

HERE = "tests.rewards.planted"
PROMPTS = Prompts(torch.tensor([0, 1]), ("a", "b"), ({}, {}))


@pytest.mark.parametrize("name", BUILTIN)
def test_the_builtin_ones_are_there(name: str) -> None:
    assert callable(reward_class(name).score)


def test_module_and_class() -> None:
    assert reward_class(f"{HERE}:Planted") is Planted


def test_an_entry_point_names_a_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def entry_points(*, group: str) -> list[EntryPoint]:
        asked.append(group)
        return [EntryPoint("plugged", f"{HERE}:Planted", group)]

    monkeypatch.setattr(base, "entry_points", entry_points)
    assert reward_class("plugged") is Planted
    assert asked == ["ddrl.rewards"]
    with pytest.raises(RewardError) as caught:
        reward_class("pluged")
    assert caught.value.hint == "did you mean 'plugged'?"
    assert reward_class("ink") is Ink  # a plug-in takes nothing away


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("inc", "did you mean 'ink'?"),
        (
            "xyzzy",
            "known: aesthetic, classifier, ",
        ),
    ],
)
def test_an_unknown_name_has_a_hint(name: str, hint: str) -> None:
    with pytest.raises(RewardError, match=f"no reward named '{name}'") as caught:
        reward_class(name)
    assert caught.value.hint.startswith(hint)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("no_such_package:Class", "No module named 'no_such_package'"),
        (f"{HERE}:Missing", "no attribute 'Missing'"),
        (f"{HERE}:", "can't be loaded"),
        (":Planted", "can't be loaded"),
        (".planted:Planted", "can't be loaded"),
        (f"{HERE}:NOT_A_CLASS", "is not a class with a method score"),
        (f"{HERE}:NotAReward", "is not a class with a method score"),
    ],
)
def test_a_path_that_leads_nowhere(name: str, phrase: str) -> None:
    with pytest.raises(RewardError, match=phrase) as caught:
        reward_class(name)
    assert repr(name) in caught.value.message


def test_a_module_that_fails_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_reward.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RewardError, match="division by zero"):
        reward_class("broken_reward:Reward")


def test_options_are_passed() -> None:
    made = make_reward(f"{HERE}:Planted", {"weights": "folder", "floor": -2.0})
    assert isinstance(made, Planted)
    assert (made.weights, made.floor) == ("folder", -2.0)


CLASS = "write a class with that method"
SEE = "see what it takes, and set that in"
OTHERWISE = "set it otherwise in"


@pytest.mark.parametrize(
    ("name", "options", "phrase", "hint"),
    [
        (f"{HERE}:Planted", {"flor": 1}, "has no option 'flor'", "did you mean 'floor'?"),
        (f"{HERE}:Planted", {"xyzzy": 1}, "has no option 'xyzzy'", "it has weights, floor"),
        (f"{HERE}:NotAReward", {}, "not a class with a method score", CLASS),
        (
            f"{HERE}:Planted",
            {},
            r"needs the option weights\.",
            "set options.weights in a recipe, or",
        ),
        (f"{HERE}:Planted", {"weights": "", "floor": 1.0}, "floor must not be positive", SEE),
        ("ink", {"scail": 2.0}, "has no option 'scail'", "did you mean 'scale'?"),
        (
            "ink",
            {"scale": "2"},
            "'scale' of reward 'ink' can't be '2': Input should be a",
            OTHERWISE,
        ),
        ("ink", {"scale": True}, "'scale' of reward 'ink' can't be True", OTHERWISE),
        (
            "jpeg",
            {"prefer": "small"},
            "can't be 'small': Input should be 'compressible' or",
            OTHERWISE,
        ),
        ("jpeg", {"quality": 90.5}, "'quality' of reward 'jpeg' can't be 90.5", OTHERWISE),
        ("jpeg", {"quality": 101}, "can't be made: quality must be from 1 to 95", SEE),
        ("ocr", {"detect": "never"}, "'detect' of reward 'ocr' can't be 'never'", OTHERWISE),
    ],
)
def test_wrong_options(name: str, options: dict[str, object], phrase: str, hint: str) -> None:
    with pytest.raises(RewardError, match=phrase) as caught:
        make_reward(name, options)
    assert caught.value.hint.startswith(hint)


def test_a_whole_number_is_a_float_too() -> None:
    media = torch.full((2, 3, 4, 4), 0.25)
    assert make_reward("ink", {"scale": 4}).score(media, PROMPTS).tolist() == [1.0, 1.0]


def test_ink_is_brightness_whatever_the_prompt() -> None:
    media = torch.stack([torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.25)])
    assert make_reward("ink", {}).score(media, PROMPTS).tolist() == [0.0, 0.25]
    assert make_reward("ink", {"scale": 4.0}).score(media, PROMPTS).tolist() == [0.0, 1.0]
