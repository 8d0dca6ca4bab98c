"""The file of `ddrl reward serve`: strict, and every fault with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddrl.errors import RecipeError
from ddrl.recipe.serving import load_serving

ROOT = Path(__file__).parents[2]


def test_the_example_is_one() -> None:
    serving = load_serving(ROOT / "examples" / "rewards.toml")
    assert [reward.path for reward in serving.reward] == ["ocr", "size"]
    assert serving.serve.token_env == "DDRL_REWARD_TOKEN"
    assert serving.reward[1].options == {"prefer": "incompressible"}


def test_a_class_is_served_under_its_name(tmp_path: Path) -> None:
    file = tmp_path / "rewards.toml"
    file.write_text('[[reward]]\nname = "my.package:Judge"\nrequirements = ["a<5", "b"]\n')
    serving = load_serving(file)
    assert serving.reward[0].path == "Judge"
    assert serving.reward[0].requirements == ("a<5", "b")
    assert serving.serve.host == "127.0.0.1"


REWARD = '[[reward]]\nname = "ocr"\n'


@pytest.mark.parametrize(
    ("text", "phrase", "hint"),
    [
        ("", "rewards.toml: There is no reward", "[[reward]]"),
        ("[serve]\nprot = 1\n" + REWARD, ":2: Unknown key serve.prot", "you mean serve.port?"),
        (
            REWARD + "replica = 2",
            ":3: Unknown key reward.0.replica",
            "did you mean reward.replicas?",
        ),
        (
            REWARD + "xyzzy = 2",
            "Unknown key reward.0.xyzzy",
            "[[reward]] takes name, route, options",
        ),
        ("[server]\n" + REWARD, ":1: Unknown section [server]", "did you mean [serve]?"),
        ("[[reward]]\nroute = 'a'", ":1: reward.0.name is missing", "Registered name"),
        (
            REWARD + "cpus = -1",
            ":3: reward.0.cpus is -1, but must be a number of at least 0",
            "CPUs that a",
        ),
        (
            REWARD + 'cpus = "1"',
            ':3: reward.0.cpus is the text "1", but must be a number',
            "without quotes: cpus = 1",
        ),
        (
            REWARD + "requirements = 'a'",
            ':3: reward.0.requirements is the text "a", but must be a list of texts',
            "pip",
        ),
        (
            "[serve]\nport = 99999\n" + REWARD,
            ":2: serve.port is 99999, but must be a whole number of at least 1 and at most 65535",
            "Port",
        ),
        (REWARD + REWARD, ":4: Two rewards are served as 'ocr'", "a route of its own"),
        (REWARD + 'route = "a/b"', ":3: 'a/b' can't be part of a URL", 'route = "a-b-reward"'),
        (REWARD + 'route = "status"', ":3: 'status' is taken", 'route = "status-reward"'),
        (REWARD + "replicas = 3\nmax_replicas = 2", ":4: max_replicas is 2, below", "0 = no more"),
        (REWARD + "= 3", "Not valid TOML", ""),
    ],
)
def test_a_fault_is_named(tmp_path: Path, text: str, phrase: str, hint: str) -> None:
    file = tmp_path / "rewards.toml"
    file.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_serving(file)
    assert phrase in caught.value.message
    assert hint in caught.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"There is no recipe .*none\.toml"):
        load_serving(tmp_path / "none.toml")
