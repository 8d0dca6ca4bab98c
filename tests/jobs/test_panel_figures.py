"""The reduced audit of hand-made models: its figures, its verdict and its score."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.jobs.hand_bench import HandBench, find, make_bench

from ddrl.jobs.evaluate.measure import Found
from ddrl.jobs.evaluate.monitors import Panel
from ddrl.training.forward import Forward

Numbers = NDArray[np.float64]
IDS = np.repeat(np.arange(6), 4)
CENTRES = np.random.default_rng(9).normal(0, 3, (6, 1, 4))
CLOUD = (CENTRES + np.random.default_rng(0).standard_normal((6, 4, 4))).reshape(-1, 4)
REWARD = np.repeat(np.arange(6.0), 4)
QUALITY = np.random.default_rng(1).standard_normal(24)


def model(
    gain: float = 0.0, drift: float = 0.0, quality: float | None = 0.0, spread: float = 1.0
) -> Found:
    """The base, but for its reward, its held-out loss, a judge, and the spread within prompts."""
    inner = CENTRES.repeat(4, 1).reshape(-1, 4)
    return find(
        inner + spread * (CLOUD - inner),
        IDS,
        reward=REWARD + gain,
        losses=np.full(24, 2 * (1 + drift)),
        measures={} if quality is None else {"quality": QUALITY + quality},
    )


def panel(found: Sequence[Found], *, settings: str = "") -> Panel:
    bench = make_bench(CLOUD + 1, IDS, settings=settings)
    bench.script.found = list(found)
    return Panel(bench, cast("Forward", None), [(1, 1, 1)], num_samples=24)


def audits(found: Sequence[Found], *, settings: str = "") -> list[Mapping[str, float]]:
    """What is found of each of these models, after the base."""
    base = model(quality=None if "quality" not in found[0].values.measures else 0.0)
    one = panel([base, *found], settings=settings)
    return [one(step).metrics for step in range(1, 1 + len(found))]


GOOD, BETTER = model(gain=1, quality=0.1), model(gain=1, quality=0.2)
HACKED = model(gain=1, drift=0.5, quality=5)
UNSURE = model(gain=1, spread=0.3, quality=5)


def test_metrics_of_one_audit() -> None:
    (found,) = audits([model(gain=1, drift=0.05, quality=0.5)])
    assert found["heldout_loss"] == pytest.approx(2.1)
    assert found["heldout_loss_change"] == pytest.approx(0.05), "a share, and not 0.1 of loss"
    assert found["audit/reward"] == pytest.approx(REWARD.mean() + 1)
    assert found["audit/diversity"] == pytest.approx(1.0)
    assert found["audit/frechet"] == pytest.approx(4.0), "data are 1 away in each of 4 features"
    assert found["audit/pixels"] == pytest.approx(0.0)
    assert found["audit/held_out/quality"] == pytest.approx(QUALITY.mean() + 0.5)
    assert found["audit/score"] == pytest.approx(0.5 / QUALITY.std())
    assert found["audit/hacked"] == 0.0


def test_the_score_is_the_gain_in_what_was_not_trained_on() -> None:
    more, less = audits([model(gain=1, quality=0.4), model(gain=9, quality=0.1)])
    assert more["audit/score"] > less["audit/score"]
    (alone,) = audits([model(gain=2, quality=None)])
    assert alone["audit/score"] == pytest.approx(2 / REWARD.std()), "there is nothing else"


@pytest.mark.parametrize("bad", [HACKED, UNSURE])
def test_a_model_with_a_sign_has_no_score(bad: Found) -> None:
    """Whatever its judge says, so that it is never the best: neither first nor after others."""
    found = audits([bad, GOOD, bad, BETTER])
    assert ["audit/score" in one for one in found] == [False, True, False, True]
    assert [one["audit/hacked"] for one in found] == [
        float(bad is HACKED),
        0,
        float(bad is HACKED),
        0,
    ]


@pytest.mark.parametrize(("limit", "hacked"), [(0.03, 1.0), (0.1, 0.0), (0.3, 0.0)])
def test_the_drift_limit_of_the_recipe_decides(limit: float, hacked: float) -> None:
    (found,) = audits([model(gain=1, drift=0.05)], settings=f"[evaluation]\ndrift_limit = {limit}")
    assert found["audit/hacked"] == hacked


def test_too_few_features_are_no_perfect_distance() -> None:
    few = find(CLOUD[:2], IDS[:2], losses=np.ones(24), measures={"quality": QUALITY[:2]})
    bench = make_bench(CLOUD[:1], IDS[:1], num_prompts=6)
    bench.script.found = [few]
    found = Panel(bench, cast("Forward", None), [(1, 1, 1)], num_samples=2)(1).metrics
    assert "audit/frechet" not in found
    assert "audit/score" not in found
    assert found["audit/hacked"] == 0.0


@pytest.mark.parametrize(
    ("num_samples", "prompts", "each"),
    [(24, 6, 4), (5, 2, 2), (1, 1, 2), (12, 6, 2), (600, 6, 100)],
)
def test_samples_are_spread_over_prompts(num_samples: int, prompts: int, each: int) -> None:
    bench: HandBench = make_bench(CLOUD + 1, IDS)
    bench.script.found = [model()]
    made = Panel(bench, cast("Forward", None), [(1, 1, 1)], num_samples=num_samples)
    assert bench.asked == [each]
    assert len(made._bench.prompts) == prompts


def test_a_reward_that_can_not_be_measured_gives_no_score() -> None:
    lost = model(gain=1, quality=0.5)
    values = dataclasses.replace(lost.values, reward=np.full(24, math.nan))
    found = audits([dataclasses.replace(lost, values=values)])
    assert "audit/score" not in found[0]
    assert "audit/reward" not in found[0]


def test_the_pixels_that_moved_farthest_are_logged() -> None:
    """Of two statistics, one stays."""
    found = [model(), model(gain=1)]
    pixels = [{"brightness": CLOUD[:, 0], "contrast": CLOUD[:, 1] + 3 * i} for i in range(2)]
    both = [
        dataclasses.replace(one, values=dataclasses.replace(one.values, pixels=of))
        for one, of in zip(found, pixels, strict=True)
    ]
    bench = make_bench(CLOUD, IDS)
    bench.real.pixels["contrast"] = CLOUD[:, 1]  # type: ignore[index]
    bench.script.found = both
    panel = Panel(bench, cast("Forward", None), [(1, 1, 1)], num_samples=24)
    moved = panel(1).metrics["audit/pixels"]
    assert moved == pytest.approx(3 / CLOUD[:, 1].std(), rel=0.1)


def test_a_measure_that_is_equal_for_all_of_the_base_s_samples_gives_no_score() -> None:
    """It has no unit; the others count, and where there is none, the reward."""
    flat = {"flat": np.ones(24)}
    base, good = model(), model(gain=1, quality=0.5)
    for quality, expected in ((True, 0.5 / QUALITY.std()), (False, 1 / REWARD.std())):
        found = [
            dataclasses.replace(
                one,
                values=dataclasses.replace(
                    one.values, measures={**(one.values.measures if quality else {}), **flat}
                ),
            )
            for one in (base, good)
        ]
        assert panel(found)(1).metrics["audit/score"] == pytest.approx(expected)


def test_the_score_is_the_mean_over_measures() -> None:
    base, good = (
        dataclasses.replace(
            one, values=dataclasses.replace(one.values, measures={"a": QUALITY, "b": QUALITY + b})
        )
        for one, b in ((model(), 0.0), (model(gain=1), 0.5))
    )
    found = panel([base, good])(1)
    assert found.metrics["audit/score"] == pytest.approx(0.25 / QUALITY.std())
    assert found.sentence.startswith("no sign of hacking: the reward rose from 2.5 to 3.5")


def test_a_base_whose_rewards_are_all_equal() -> None:
    base, better = (
        dataclasses.replace(
            one, values=dataclasses.replace(one.values, reward=np.full(24, 1.0 + i), measures={})
        )
        for i, one in enumerate((model(), model()))
    )
    assert panel([base, better])(1).metrics["audit/score"] == pytest.approx(1.0)


def test_signs_of_two_kinds_are_hacking_whatever_the_drift() -> None:
    (found,) = audits([model(gain=1, quality=-5, spread=0.3)])
    assert found["audit/hacked"] == 1.0
    assert "audit/score" not in found
