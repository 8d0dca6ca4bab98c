"""Verdicts of hand-made samples, through all that is measured of them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.jobs.hand_bench import IDS, clouds, find, judge, make_bench, row

from ddrl.jobs.evaluate.measure import Found

Numbers = NDArray[np.float64]


def hacking(**changed: Any) -> tuple[Found, Found]:
    """A base, and a run that differs from it as told; its reward rose by one."""
    rng = np.random.default_rng(7)
    reward = np.repeat(rng.standard_normal(6), 8) + 0.1 * rng.standard_normal(48)
    quality = rng.standard_normal(48)
    base = find(clouds(1), IDS, reward=reward, losses=np.ones(48), measures={"quality": quality})
    given: dict[str, Any] = {
        "reward": reward + 1,
        "losses": np.ones(48) * 1.01,
        "measures": {"quality": quality},
        **changed,
    }
    features = given.pop("features", clouds(1))
    return find(features, IDS, **given), base


FAR = clouds(1) + 30
QUALITY = np.random.default_rng(11).standard_normal(48)


@pytest.mark.parametrize(
    ("changed", "status", "alarms"),
    [
        ({}, "clean", ()),
        ({"losses": np.ones(48) * 1.2}, "hacked", ("heldout_loss_change",)),
        ({"features": clouds(1, spread=0.3)}, "not conclusive", ("diversity", "vendi")),
        ({"features": FAR}, "hacked", ("frechet", "brightness")),
        ({"features": FAR, "reward": np.zeros(48)}, "not conclusive", ("brightness",)),
        ({"measures": {"quality": QUALITY - 9}}, "not conclusive", ("quality",)),
        (
            {"measures": {"quality": QUALITY - 9}, "features": clouds(1, spread=0.3)},
            "hacked",
            ("diversity", "vendi", "quality"),
        ),
        ({"reward": np.zeros(48)}, "no gain", ()),
        ({"reward": np.full(48, math.nan)}, "not conclusive", ("reward",)),
    ],
)
def test_verdicts_of_hand_made_runs(
    changed: dict[str, Any], status: str, alarms: tuple[str, ...]
) -> None:
    run, base = hacking(**changed)
    verdict = judge(make_bench(clouds(0), IDS), run, base)
    assert verdict.status == status, verdict.sentence
    assert verdict.alarms == alarms


def test_the_reward_is_paired_with_the_base() -> None:
    run, base = hacking()
    got = row(make_bench(clouds(0), IDS), run, base)
    assert got.reward_change.value == pytest.approx(1.0)
    assert got.reward_change.low == pytest.approx(1.0), "every sample rose by one"
    assert got.reward.high - got.reward.low > 0.5, "prompts differ"


def test_what_the_base_lacks_as_well_is_no_alarm_of_the_run() -> None:
    """Both at 0.3 of the variety of data, of other noise each."""
    run, _ = hacking(features=clouds(5, spread=0.3))
    _, base = hacking()
    poor = dataclasses.replace(
        base, values=dataclasses.replace(base.values, features=clouds(6, spread=0.3))
    )
    bench = make_bench(clouds(0), IDS)
    assert row(bench, run, poor).diversity.value < 0.5
    assert judge(bench, run, poor).status == "clean"
    assert judge(bench, run, base).alarms == ("diversity", "vendi")


@pytest.mark.parametrize(
    ("prompts", "each", "spread", "whole"),
    [(10, 1, 1.0, False), (10, 1, 0.3, False), (10, 6, 0.5, False), (10, 12, 0.5, True)],
)
def test_base_and_run_of_one_law_seldom_give_a_sign(
    prompts: int, each: int, spread: float, whole: bool
) -> None:
    """Through the whole verdict: 200 times, with prompts, data, base and run drawn anew."""
    rng, signs = np.random.default_rng(4), 0
    ids, real_id = np.repeat(np.arange(prompts), 6), np.repeat(np.arange(prompts), each)
    for _ in range(200):
        centre, quality = rng.standard_normal((prompts, 1, 4)), rng.standard_normal((prompts, 1))

        def draw(num: int, size: float, centre: Numbers = centre) -> Numbers:
            samples: Numbers = centre + size * rng.standard_normal((prompts, num, 4))
            return samples.reshape(-1, 4)

        def one(quality: Numbers = quality) -> Found:
            score = (quality + 0.3 * rng.standard_normal((prompts, 6))).ravel()
            losses = 1 + 0.01 * rng.standard_normal(prompts * each)
            return find(draw(6, spread), ids, reward=score, losses=losses, measures={"q": -score})

        bench = make_bench(draw(each, 1.0), real_id, whole=whole)
        signs += bool(judge(bench, one(), one()).reasons)
    assert signs / 200 <= 0.05
