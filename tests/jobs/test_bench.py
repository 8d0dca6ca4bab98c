"""What is measured of each sample: the values of real rewards and of an encoder, by hand."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
import torch
from tests.jobs.hand_bench import IDS, clouds, make_bench
from torch import Tensor

from ddrl.builders.scorers import build_heldout, build_scorer
from ddrl.builders.tasks.table import task_of
from ddrl.evaluation.measures.generate import SampleSet
from ddrl.jobs.evaluate.bench import Bench, Values
from ddrl.recipe import parse_recipe
from ddrl.records import Prompts

RECIPE = """
[scoring]
combine = "normalized"
on_failure = "drop_sample"
max_failed_share = 1
[[reward]]
name = "tests.jobs.failing_reward:OneFails"
weight = 3
[[evaluation.reward]]
name = "tests.rewards.faulty:Faulty"
label = "kept"
options = { fault = "none" }
[[evaluation.reward]]
name = "tests.rewards.faulty:Faulty"
label = "lost"
options = { fault = "raise" }
"""


def half_as_bright(media: Tensor, prompts: Prompts) -> Tensor:
    return media.flatten(1).mean(1) / 2


def measure(media: Tensor) -> Values:
    """The values of samples of two prompts, by the bench itself."""
    recipe = parse_recipe(RECIPE)
    bench = dataclasses.replace(
        make_bench(clouds(), IDS),
        recipe=recipe,
        scorer=build_scorer(task_of(recipe)),
        heldout=build_heldout(task_of(recipe)),
        judges={"halves": half_as_bright},
    )
    prompts = Prompts.numbered(["a", "b"]).select([0, 0, 1, 1])
    return Bench.values(bench, [SampleSet(media, prompts)])


BRIGHTNESS = [0.0, 0.25, 0.5, 1.0]
PICTURES = torch.tensor(BRIGHTNESS)[:, None, None, None].expand(4, 3, 8, 8)


def test_the_reward_is_the_weighted_sum_and_missing_where_it_failed() -> None:
    """And not what it is combined to, which is relative to the batch; nor 0 where it failed."""
    found = measure(PICTURES)
    assert np.isnan(found.reward[0])
    assert found.reward[1:] == pytest.approx([0.75, 1.5, 3.0])
    assert found.prompt_id.tolist() == [0, 0, 1, 1]


def test_judges_and_held_out_rewards_stand_by_name_with_the_cause_of_what_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        found = measure(PICTURES)
    assert list(found.measures) == ["halves", "kept", "lost"]
    assert found.measures["halves"] == pytest.approx([0, 0.125, 0.25, 0.5])
    assert found.measures["kept"] == pytest.approx(BRIGHTNESS)
    assert np.isnan(found.measures["lost"]).all()
    assert list(found.causes) == ["lost"]
    assert "planted" in found.causes["lost"]
    assert "planted" in caplog.text


def test_features_of_a_clip_are_the_means_of_its_frames() -> None:
    pictures = measure(PICTURES)
    assert pictures.frames is None
    assert pictures.features.shape == (4, 192)
    clips = torch.stack([PICTURES, PICTURES.flip(0)], 1)
    found = measure(clips)
    assert found.frames is not None
    assert found.frames.shape == (4, 2, 192)
    assert found.frames[:, 0, 0] == pytest.approx(BRIGHTNESS)
    assert found.features[:, 0] == pytest.approx([0.5, 0.375, 0.375, 0.5])


def test_more_training_prompts_than_are_sampled_make_prompts_the_unit() -> None:
    bench = make_bench(clouds(), IDS, whole=True)
    train = dataclasses.replace(bench.corpus.train, captions=("prompt 0",))
    part = dataclasses.replace(bench, corpus=dataclasses.replace(bench.corpus, train=train))
    assert part.unit == "sample", "all that is trained on is sampled, and more"
    fewer = dataclasses.replace(bench, prompts=("prompt 0",))
    assert (fewer.unit, fewer.drift_unit) == ("prompt", "sample")
