"""What a run is about: which task a recipe names, and what each says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ddrl.builders.tasks.digits import Digits
from ddrl.builders.tasks.files import Files, Hub
from ddrl.builders.tasks.moving_digits import MovingDigits
from ddrl.builders.tasks.prompts import Prompts
from ddrl.builders.tasks.table import check_reward, example_task, task_of
from ddrl.builders.tasks.task import Task
from ddrl.builders.tasks.words import Words
from ddrl.data.embedded.digits import digit_splits
from ddrl.data.embedded.moving_digits import speeds
from ddrl.errors import DataError, RewardError
from ddrl.recipe import parse_recipe
from ddrl.recipe.sections.rewards import RewardSection

MOVING = 'height = 12\nwidth = 16\nframes = 8\n[model]\nnetwork = "dit"\n'
PIPELINE = '[model]\nfamily = "diffusers"\npath = "owner/name"\n'
KINDS: dict[str, tuple[type[Task], str]] = {
    "digits": (Digits, ""),
    "moving_digits": (MovingDigits, MOVING),
    "words": (Words, '[model]\nnetwork = "dit"\npatch = 8\n'),
    "files": (Files, f'path = "nowhere/files"\n{PIPELINE}'),
    "hub": (Hub, f'path = "owner/set"\n{PIPELINE}'),
    "prompts": (Prompts, f'path = "nowhere/texts.txt"\nanchor = "synthetic"\n{PIPELINE}'),
}


def made(source: str) -> Task:
    keys = KINDS[source][1]
    return task_of(parse_recipe(f'[data]\nsource = "{source}"\n{keys}[[reward]]\nname = "ink"\n'))


@pytest.mark.parametrize("source", KINDS)
def test_a_recipe_names_its_task_by_its_source(source: str) -> None:
    task = made(source)
    assert type(task) is KINDS[source][0]
    assert task.is_embedded == (source in {"digits", "moving_digits", "words"})
    assert task.samples_base == (source == "prompts")
    assert ("of the base model" in task.heldout_kind) == (source == "prompts")
    assert task.is_here == (source not in {"files", "prompts"})


@pytest.mark.parametrize(
    ("source", "phrase"),
    [("files", "no data at nowhere/files"), ("prompts", "nowhere/texts.txt")],
)
def test_data_that_are_not_there_are_refused(source: str, phrase: str) -> None:
    with pytest.raises(DataError, match=phrase) as caught:
        made(source).check()
    assert caught.value.hint


def test_files_that_are_there_are_not_refused(tmp_path: Path) -> None:
    keys = KINDS["files"][1].replace("nowhere/files", str(tmp_path))
    task = task_of(parse_recipe(f'[data]\nsource = "files"\n{keys}[[reward]]\nname = "ink"\n'))
    assert task.is_here
    task.check()


def test_the_motions_speeds_are_those_of_the_clips() -> None:
    task, known = made("moving_digits"), speeds((12, 16), 8)
    motion = RewardSection(name="motion")
    check_reward(task, motion)
    assert task.options(motion) == known
    one = RewardSection(name="motion", options={"slowly": 0.125})
    assert task.options(one) == {"slowly": 0.125, "quickly": known["quickly"]}


def test_options_that_are_given_are_left_alone() -> None:
    options = {"weights": "somewhere"}
    section = RewardSection(name="classifier", options={"weights": "somewhere"})
    for source in ("digits", "words", "prompts"):
        task = made(source)
        check_reward(task, section)
        assert task.options(section) == options


@pytest.mark.parametrize(
    ("reward", "source", "phrase"),
    [
        ("classifier", "words", "option weights with data other than the digits"),
        ("digit_identity", "files", "option weights with data other than the moving digits"),
        ("motion", "digits", "option slowly and quickly with data other than the moving digits"),
    ],
)
def test_other_data_give_none(reward: str, source: str, phrase: str) -> None:
    with pytest.raises(RewardError, match=phrase) as caught:
        check_reward(made(source), RewardSection(name=reward))
    assert caught.value.hint


def test_two_kinds_of_real_digits() -> None:
    other = made("digits").other_real()
    assert other is not None
    assert torch.equal(other, digit_splits().reward.media)
    assert made("hub").other_real() is None


def test_the_smallest_recipe_of_every_embedded_task() -> None:
    for source in ("digits", "moving_digits", "words"):
        task = example_task(source)
        assert type(task) is KINDS[source][0]
    assert example_task("some/folder") is None
