"""How many synthetic anchors a run gets, and which of the samples are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ddrl.builders.data.corpus import Part
from ddrl.builders.scorers import build_scorer
from ddrl.builders.synthetic.anchors import drawn_per_prompt, make_anchors
from ddrl.builders.synthetic.drawing import Synthetic
from ddrl.builders.synthetic.selection import scores_path
from ddrl.builders.tasks.table import task_of
from ddrl.data.groups import Dealer
from ddrl.errors import DataError, RewardError
from ddrl.models.tiny.config import TinyConfig
from ddrl.models.tiny.model import TinyModel
from ddrl.recipe import Recipe, parse_recipe
from ddrl.records import Prompts
from ddrl.rewards.base import SampleError

TEXTS = ("zero", "one", "two")
HERE = "tests.builders.test_anchors"
CALLS: list[int] = []
"""How many samples each call of a reward of this module has scored."""


class Counted:
    """Brightness, which remembers being asked."""

    def __init__(self, *, weights: str = "") -> None:
        self._weights = weights

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        CALLS.append(len(media))
        assert len(prompts) == len(media)
        return media.flatten(1).mean(1)


class Equal:
    """The same for all."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        return torch.ones(len(media))


class Failing:
    """Brightness, and no reward for the brightest of each prompt, or for a prompt's every one."""

    def __init__(self, *, prompt: str = "") -> None:
        self._prompt = prompt

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        value = media.flatten(1).mean(1)
        texts = list(prompts.text)
        failed = [i for i, text in enumerate(texts) if text == self._prompt]
        if not self._prompt:
            rows = [[i for i, other in enumerate(texts) if other == text] for text in set(texts)]
            failed = [max(own, key=lambda i: float(value[i])) for own in rows]
        if not failed:
            return value
        raise SampleError(value, dict.fromkeys(failed, "no text was found"))


class Spread:
    """The distance from the mean of the samples that share the prompt: of a group, not a sample."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        value = media.flatten(1).mean(1)
        means = [value[prompts.prompt_id == number].mean() for number in prompts.prompt_id]
        return (value - torch.stack(means)).abs()


def model() -> TinyModel:
    made = TinyModel(TinyConfig(TEXTS, 8, 8, width=16, depth=1), seed=0)
    noise = torch.Generator().manual_seed(0)
    for parameter in made.transformer.parameters():  # the last layer starts at 0
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=noise)
    return made


def recipe(cache: Path, *overrides: str, reward: str = f"{HERE}:Counted") -> Recipe:
    where = [f"run.cache={cache}", f"run.folder={cache / 'run'}", "run.device=cpu"]
    small = ["data.anchor=synthetic", "data.synthetic.per_prompt=6", "rollout.steps=2"]
    groups = ["rollout.prompts_per_step=2", "rollout.group_size=4"]
    text = f'[[reward]]\nname = "{reward}"\n'
    return parse_recipe(text, overrides=[*where, *small, *groups, *overrides])


def anchors(of: Recipe, *metadata: dict[str, Any]) -> Synthetic:
    base = model()
    empty = torch.empty(0, dtype=torch.int64)
    part = Part(TEXTS, base.encode(TEXTS), empty, torch.empty(0, 1, 8, 8), metadata)
    task = task_of(of)
    return make_anchors(task, base, part, build_scorer(task))


def brightness(made: Synthetic) -> list[float]:
    values: list[float] = model().decode(made.latents[:]).flatten(1).mean(1).tolist()
    return values


AUTO = [
    # steps, prompts per step, anchors, prompts, more -> drawn
    (150, 10, 16, 10, (), 120),
    (150, 10, 16, 10, ("data.anchor=mixed",), 60),
    (150, 10, 16, 10, ("data.anchors_per_group=4",), 30),
    (151, 10, 16, 10, (), 121),
    (150, 10, 16, 10, ("data.synthetic.keep=0.5",), 240),
    (150, 10, 16, 10, ("data.synthetic.keep=0.29",), 414),
    (150, 10, 16, 10, ("data.synthetic.per_prompt=7", "data.synthetic.keep=0.5"), 7),
    (150, 10, 16, 10, ("data.anchor=paired",), 120),
    (2, 10, 16, 1000, (), 4),
    (2, 10, 16, 1000, ("data.anchors_per_group=3",), 3),  # no prompt comes up twice
    (2, 10, 16, 20, ("data.anchors_per_group=2",), 2),
    (2, 10, 16, 1000, ("objective.advantage=tilt",), 8),
]


@pytest.mark.parametrize(("steps", "groups", "size", "prompts", "more", "drawn"), AUTO)
def test_how_many_are_drawn(
    tmp_path: Path,
    steps: int,
    groups: int,
    size: int,
    prompts: int,
    more: tuple[str, ...],
    drawn: int,
) -> None:
    geometry = [f"run.steps={steps}", f"rollout.prompts_per_step={groups}"]
    geometry += [f"rollout.group_size={size}", "data.synthetic.per_prompt=0"]
    assert drawn_per_prompt(recipe(tmp_path, *geometry, *more), prompts) == drawn


@pytest.mark.parametrize("num_prompts", [3, 10, 37])
def test_a_sample_comes_up_about_twenty_times(tmp_path: Path, num_prompts: int) -> None:
    of = recipe(tmp_path, "run.steps=400", "data.synthetic.per_prompt=0")
    number = drawn_per_prompt(of, num_prompts)
    dealer = Dealer(
        torch.arange(num_prompts).repeat_interleave(number),
        num_prompts=num_prompts,
        seed=0,
        prompts_per_step=2,
        anchors_per_group=4,
        mode="synthetic",
    )
    rows = torch.cat([dealer.deal(step).anchor_row for step in range(400)])
    assert 15 <= int(rows.bincount(minlength=num_prompts * number).max()) <= 21


@pytest.mark.parametrize(("keep", "count"), [("0.5", 3), ("0.4", 2), ("0.01", 1), ("0.999", 5)])
def test_the_best_of_each_prompt_are_kept(tmp_path: Path, keep: str, count: int) -> None:
    every = anchors(recipe(tmp_path))
    kept = anchors(recipe(tmp_path, f"data.synthetic.keep={keep}"))
    values = brightness(every)
    wanted = []
    for prompt in range(3):
        rows = range(6 * prompt, 6 * prompt + 6)
        wanted += sorted(sorted(rows, key=lambda row: -values[row])[:count])
    assert [one.key for one in kept.samples] == [every.samples[row].key for row in wanted]
    assert torch.equal(kept.latents[:], every.latents[:][wanted])
    assert kept.caption_id.tolist() == [0] * count + [1] * count + [2] * count
    scores = [one.score for one in kept.samples]
    assert scores == pytest.approx([values[row] for row in wanted], abs=1e-6)
    assert kept.lines() == [
        "samples  0 made, 18 reused",
        f"kept     {3 * count}, the best by reward",
    ]


def test_all_are_kept_unseen(tmp_path: Path) -> None:
    CALLS.clear()
    every = anchors(recipe(tmp_path))
    assert (len(every.samples), every.num_drawn, CALLS) == (18, 18, [])
    assert {one.score for one in every.samples} == {None}
    assert not (tmp_path / "synthetic" / "scores").exists()


def test_a_negative_weight_keeps_the_lowest(tmp_path: Path) -> None:
    values = brightness(anchors(recipe(tmp_path)))
    kept = anchors(recipe(tmp_path, "data.synthetic.keep=0.1", "reward.0.weight=-2"))
    lowest = [min(values[6 * prompt : 6 * prompt + 6]) for prompt in range(3)]
    assert [one.score for one in kept.samples] == pytest.approx([-2 * v for v in lowest], abs=1e-6)


def test_of_equal_ones_the_first_are_kept(tmp_path: Path) -> None:
    kept = anchors(recipe(tmp_path, "data.synthetic.keep=0.5", reward=f"{HERE}:Equal"))
    assert [one.sample for one in kept.samples] == [0, 1, 2] * 3


def test_those_that_failed_are_never_kept(tmp_path: Path) -> None:
    dropped = ["scoring.on_failure=drop_sample", "scoring.max_failed_share=1"]
    values = brightness(anchors(recipe(tmp_path)))
    how = ["data.synthetic.keep=0.9", *dropped, "rollout.group_size=6"]
    for _ in range(2):  # computed, and read back
        kept = anchors(recipe(tmp_path, *how, reward=f"{HERE}:Failing"))
        brightest = {max(range(6), key=lambda i: values[6 * p + i]) + 6 * p for p in range(3)}
        rows = [6 * one.prompt + one.sample for one in kept.samples]
        assert rows == [row for row in range(18) if row not in brightest]
    whole = [*how, "scoring.on_failure=drop_group", "reward.0.options.prompt=one"]
    with pytest.raises(RewardError, match=r"No sample of the base for 'one' has a reward") as one:
        anchors(recipe(tmp_path, *whole, reward=f"{HERE}:Failing"))
    assert "data.synthetic.keep = 1" in one.value.hint
    with pytest.raises(RewardError, match="no text was found"):
        anchors(recipe(tmp_path, "data.synthetic.keep=0.9", reward=f"{HERE}:Failing"))


def test_scores_are_kept(tmp_path: Path) -> None:
    half = "data.synthetic.keep=0.5"
    CALLS.clear()
    first = anchors(recipe(tmp_path, half))
    assert CALLS == [6, 6, 6]  # a group of 4 and one of 2: two groups at once, as in a step
    for more in ("data.synthetic.keep=0.2", "run.micro_batch=1", "objective.beta=0.3"):
        anchors(recipe(tmp_path, half, more))
    assert anchors(recipe(tmp_path, half)).samples == first.samples
    assert CALLS == [6, 6, 6]
    anchors(recipe(tmp_path, half, "data.synthetic.per_prompt=8"))
    assert CALLS[3:] == [8, 4]  # the group of 2 has become one of 4
    weights = tmp_path / "weights"
    for more in ("reward.0.weight=2", f"reward.0.options.weights={weights}"):
        CALLS.clear()
        anchors(recipe(tmp_path, half, more))
        assert sum(CALLS) == 18, more
    CALLS.clear()
    weights.write_text("trained")
    anchors(recipe(tmp_path, half, f"reward.0.options.weights={weights}"))
    assert sum(CALLS) == 18


def test_scores_are_those_of_the_prompts_metadata(tmp_path: Path) -> None:
    of = recipe(tmp_path, "data.synthetic.keep=0.5")
    anchors(of)
    CALLS.clear()
    anchors(of, {}, {}, {})
    assert CALLS == []
    anchors(of, {}, {"count": 1}, {})
    assert sum(CALLS) == 6
    anchors(of, {}, {"count": 2}, {})
    assert sum(CALLS) == 12
    anchors(of, {}, {"count": 1}, {})
    assert sum(CALLS) == 12


def test_the_micro_batch_does_not_matter(tmp_path: Path) -> None:
    half = "data.synthetic.keep=0.5"
    together = anchors(recipe(tmp_path / "a", half))
    apart = anchors(recipe(tmp_path / "b", half, "run.micro_batch=1"))
    assert [one.key for one in together.samples] == [one.key for one in apart.samples]


def test_a_reward_of_groups_sees_groups(tmp_path: Path) -> None:
    half = ["data.synthetic.keep=0.5", "rollout.group_size=6"]
    values = torch.tensor(brightness(anchors(recipe(tmp_path)))).reshape(3, 6)
    kept = anchors(recipe(tmp_path, *half, reward=f"{HERE}:Spread"))
    far = (values - values.mean(1, keepdim=True)).abs()
    assert [one.sample for one in kept.samples] == far.topk(
        3
    ).indices.sort().values.flatten().tolist()
    alone = anchors(
        recipe(tmp_path / "b", *half, "rollout.prompts_per_step=1", reward=f"{HERE}:Spread")
    )
    assert alone.samples == kept.samples


@pytest.mark.parametrize(
    "broken",
    [
        b'{"group": "',
        b"\xff\xfe",
        b'[1]\n{"group": 3, "scores": []}\n{"group": "a", "scores": ["b", true]}',
    ],
)
def test_a_half_line_does_not_count(tmp_path: Path, broken: bytes) -> None:
    of = recipe(tmp_path, "data.synthetic.keep=0.5")
    first = anchors(of)
    path = scores_path(task_of(of), model())
    whole = path.read_bytes()
    lines = whole.split(b"\n")
    path.write_bytes(b"\n".join(lines[:3]) + b"\n" + broken)
    CALLS.clear()
    assert anchors(of).samples == first.samples
    assert 0 < sum(CALLS) < 18
    CALLS.clear()
    assert anchors(of).samples == first.samples
    assert CALLS == []


def test_scores_that_can_not_be_read_or_written(tmp_path: Path) -> None:
    of = recipe(tmp_path, "data.synthetic.keep=0.5")
    path = scores_path(task_of(of), model())
    path.mkdir(parents=True)
    with pytest.raises(DataError, match=r"\.jsonl can't be read") as caught:
        anchors(of)
    assert "remove it" in caught.value.hint
    path.rmdir()
    path.parent.rmdir()
    path.parent.write_text("a file")
    with pytest.raises(DataError, match="can't be written") as caught:
        anchors(of)
    assert "run.cache" in caught.value.hint


def test_the_order_of_equal_runs_is_the_same(tmp_path: Path) -> None:
    """The rows of a pool are dealt by position, so the order is a part of what is resumed."""
    half = "data.synthetic.keep=0.5"
    one, other = (anchors(recipe(tmp_path / name, half)) for name in "ab")
    assert one.samples == other.samples
    assert torch.equal(one.latents[:], other.latents[:])
    numbers = [one.sample for one in one.samples]
    assert all(numbers[i : i + 3] == sorted(numbers[i : i + 3]) for i in (0, 3, 6))
