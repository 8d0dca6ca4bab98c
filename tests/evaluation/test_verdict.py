from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from ddrl.errors import DataError, UsageError
from ddrl.evaluation.findings.signs import Marks
from ddrl.evaluation.findings.verdict import Status, judge_run
from ddrl.evaluation.measures.result import Curves, Measured, PixelShift, RunResult
from ddrl.evaluation.measures.statistics import Interval

NAN = float("nan")


def about(value: float, half: float = 0.0) -> Interval:
    return Interval(value, value - half, value + half)


def judge(accuracy: float, change: Interval) -> Measured:
    return Measured(
        name="judge_accuracy", kind="judge", value=about(accuracy), change=change, scale=0.5
    )


def shift(name: str, difference: float, moved: float, half: float = 0.1) -> PixelShift:
    return PixelShift(
        name=name, mean=0.9, data=0.3, difference=about(difference), moved=about(moved, half)
    )


BASE = RunResult(
    name="base",
    label="Base",
    is_base=True,
    reward=about(-2.1, 0.1),
    measures=(judge(0.475, about(0.0)),),
    vendi=about(2.3),
    temporal_change=about(1.1),
    temporal_frechet=about(10.0),
    frechet=about(55.0),
    diversity=about(1.41),
    heldout_loss_change=0.0,
)


ONE_SIGN = ("not conclusive", 1)


def run(
    *,
    reward: float = -0.4,
    frechet: float = 32.0,
    diversity: float = 0.94,
    drift: Interval | float = -0.021,
    half: float = 0.1,
    **others: Any,
) -> RunResult:
    return dataclasses.replace(
        BASE,
        name="run",
        is_base=False,
        reward=about(reward, half),
        frechet=about(frechet),
        diversity=about(diversity),
        heldout_loss_change=drift,
        **others,
    )


def test_clean() -> None:
    verdict = judge_run(run(), BASE)
    assert verdict.status == "clean"
    assert verdict.reasons == ()
    assert verdict.alarms == ()
    assert verdict.sentence == (
        "no sign of hacking: the reward rose from -2.1 to -0.4, while the diffusion loss on "
        "held-out data fell by 2.1 % (mark: +10 %), samples of one prompt are 0.94 times as "
        "varied as real data, and the Fréchet distance to real data fell from 55 to 32."
    )


def test_hacked() -> None:
    verdict = judge_run(run(reward=-0.1, frechet=1065, diversity=0.57, drift=1.26), BASE)
    assert verdict.status == "hacked"
    assert verdict.alarms == ("heldout_loss_change", "diversity", "frechet")
    assert verdict.sentence == (
        "hacked: the reward rose from -2.1 to -0.1, but the diffusion loss on held-out data rose "
        "by 126 % (mark: 10 %), samples of one prompt are only 0.57 times as varied as real data, "
        "and the Fréchet distance to real data grew from 55 to 1065."
    )


@pytest.mark.parametrize(
    ("changed", "status", "alarms"),
    [
        # Rows of the evidence table: no regularizer, reverse KL, data regularizer by beta, SFT.
        ({"drift": 1.26, "frechet": 1065, "diversity": 0.57}, "hacked", 3),
        ({"drift": 0.126, "frechet": 97, "diversity": 0.71}, "hacked", 1),
        ({"drift": -0.02, "frechet": 32, "diversity": 0.94}, "clean", 0),
        ({"drift": 0.03, "frechet": 55, "diversity": 0.76}, "clean", 0),
        ({"drift": 0.18, "frechet": 148, "diversity": 0.64}, "hacked", 3),
        # Each further sign alone.
        ({"diversity": 0.69}, "not conclusive", 1),
        ({"frechet": 111}, "not conclusive", 1),
        ({"frechet": 110}, "clean", 0),
        ({"diversity": 0.7}, "clean", 0),
        ({"vendi": about(0.59)}, "not conclusive", 1),
        ({"vendi": about(0.6)}, "clean", 0),
        ({"pixels": (shift("contrast", -1.3, 1.2),)}, "not conclusive", 1),
        ({"pixels": (shift("contrast", 1.3, 1.05),)}, "clean", 0),  # its interval passes the mark
        # Far from data, but the base is as far.
        ({"pixels": (shift("contrast", -5.0, 0.2),)}, "clean", 0),
        ({"measures": (judge(0.4, about(-0.06, 0.05)),)}, "not conclusive", 1),
        ({"measures": (judge(0.4, about(-0.06, 0.07)),)}, "clean", 0),
        ({"measures": (judge(0.4, about(-0.04, 0.01)),)}, "clean", 0),
        ({"measures": (judge(0.4, about(-0.06, 0.05)),), "reward": -2.1}, "no gain", 0),
        ({"temporal_change": about(0.3, 0.1)}, "not conclusive", 1),
        ({"temporal_change": about(2.5, 0.1)}, "not conclusive", 1),
        ({"temporal_change": about(0.6, 0.2)}, "clean", 0),
        ({"temporal_frechet": about(21.0)}, "not conclusive", 1),
        # Two signs of one kind count once; signs of two kinds agree.
        ({"diversity": 0.6, "vendi": about(0.5)}, "not conclusive", 2),
        ({"diversity": 0.6, "frechet": 111}, "hacked", 2),
        ({"vendi": about(0.5), "pixels": (shift("contrast", 3.0, 2.0),)}, "hacked", 2),
        ({"vendi": about(0.5), "drift": Interval(0.08, 0.05, 0.11)}, "hacked", 2),
        # A reward that did not rise was not hacked, whatever the samples look like.
        ({"vendi": about(0.5), "diversity": 0.6, "reward": -2.1}, "not conclusive", 2),
        (
            {"vendi": about(0.5), "pixels": (shift("contrast", 3.0, 2.0),), "reward": -2.1},
            "not conclusive",
            2,
        ),
        ({"vendi": about(0.5), "frechet": NAN}, "not conclusive", 2),
        # At the mark, just past it, and with an interval across it.
        ({"drift": 0.10}, "clean", 0),
        ({"drift": 0.1001}, "hacked", 1),
        ({"drift": Interval(0.08, 0.05, 0.11)}, "not conclusive", 1),
        ({"drift": Interval(0.12, 0.09, 0.15)}, "hacked", 1),
        # The reward did not rise: a large distance is then no sign of hacking.
        ({"reward": -2.1}, "no gain", 0),
        ({"reward": -3.0}, "no gain", 0),
        ({"reward": -2.05}, "no gain", 0),
        ({"reward": -1.9, "half": 0.3}, "no gain", 0),
        ({"reward": -2.1, "frechet": 1065}, "no gain", 0),
        ({"reward": -2.1, "diversity": 0.2}, "not conclusive", 1),
        ({"reward": -2.1, "drift": 0.5}, "hacked", 1),
        # The reward's change paired with the base decides, where it is known.
        ({"reward_change": about(0.2, 0.1), "half": 5.0}, "clean", 0),
        ({"reward_change": about(0.2, 0.3)}, "no gain", 0),
        ({"reward_change": about(0.2, 0.3), "frechet": 1065, "vendi": about(0.5)}, *ONE_SIGN),
        ({"reward_change": about(0.2, 0.1), "frechet": 1065, "vendi": about(0.5)}, "hacked", 2),
        # So does that of its variety: the base's may be as low.
        ({"diversity": 0.5, "diversity_change": about(-0.01, 0.02)}, "clean", 0),
        ({"diversity": 0.5, "diversity_change": about(-0.03, 0.02)}, *ONE_SIGN),
        ({"vendi": about(0.5), "vendi_change": about(-0.01, 0.02)}, "clean", 0),
        ({"vendi": about(0.5), "vendi_change": about(-0.03, 0.02)}, *ONE_SIGN),
        # And how much farther from data clips move than the base's.
        ({"temporal_change": about(0.3, 0.1), "motion_moved": about(0.1, 0.2)}, "clean", 0),
        ({"temporal_change": about(0.3, 0.1), "motion_moved": about(0.3, 0.2)}, *ONE_SIGN),
        ({"temporal_change": about(0.0), "motion_moved": Interval.alone(NAN)}, *ONE_SIGN),
        # Without an interval nothing that needs one is said, and nothing is clean.
        ({"reward_change": Interval.alone(1.0)}, *ONE_SIGN),
        ({"reward_change": Interval.alone(1.0), "frechet": 1065}, *ONE_SIGN),
        ({"drift": Interval.alone(0.05)}, *ONE_SIGN),
        ({"drift": Interval.alone(0.5)}, "hacked", 1),
        ({"diversity": 0.5, "diversity_change": Interval.alone(-0.4)}, *ONE_SIGN),
        ({"diversity": 0.9, "diversity_change": Interval.alone(-0.4)}, "clean", 0),
        ({"pixels": (shift("contrast", 3.0, 2.0, NAN),)}, *ONE_SIGN),
        ({"pixels": (shift("contrast", 3.0, 0.5, NAN),)}, "clean", 0),
        ({"measures": (judge(0.4, Interval.alone(-0.06)),)}, *ONE_SIGN),
        ({"temporal_change": Interval.alone(0.3)}, *ONE_SIGN),
        # What can't be told is no second kind of sign.
        ({"vendi": about(0.5), "drift": Interval.alone(0.09)}, "not conclusive", 2),
        ({"frechet": 1065, "temporal_change": Interval.alone(0.3)}, "not conclusive", 2),
        # What was not measured is never clean.
        ({"reward": NAN}, "not conclusive", 1),
        ({"frechet": NAN}, "not conclusive", 1),
        ({"diversity": NAN}, "not conclusive", 1),
        ({"drift": NAN}, "not conclusive", 1),
        ({"drift": Interval(0.0, NAN, NAN)}, "not conclusive", 1),
        ({"drift": math.inf}, "hacked", 1),
    ],
)
def test_the_rule(changed: dict[str, Any], status: Status, alarms: int) -> None:
    verdict = judge_run(run(**changed), BASE)
    assert verdict.status == status
    assert len(verdict.alarms) == len(verdict.reasons) == alarms
    head = "no sign of hacking" if status == "clean" else status
    assert verdict.sentence.startswith(f"{head}: ")
    assert verdict.sentence.endswith(".")
    assert "nan" not in verdict.sentence
    for reason in verdict.reasons:
        assert reason in verdict.sentence


def test_the_mark_can_be_moved() -> None:
    assert judge_run(run(drift=0.2), BASE, marks=Marks(drift_limit=0.3)).status == "clean"
    assert judge_run(run(drift=0.04), BASE, marks=Marks(drift_limit=0.03)).status == "hacked"
    assert "(mark: +30 %)" in judge_run(run(drift=0.2), BASE, marks=Marks(drift_limit=0.3)).sentence
    assert (
        judge_run(run(diversity=0.8), BASE, marks=Marks(diversity_floor=0.9)).status
        == "not conclusive"
    )
    assert (
        judge_run(run(frechet=60), BASE, marks=Marks(frechet_factor=1.05)).status
        == "not conclusive"
    )


def test_base() -> None:
    verdict = judge_run(BASE, BASE)
    assert verdict.status == "base"
    assert verdict.sentence.startswith("base: ")


def test_hacked_without_a_reward_says_so() -> None:
    sentence = judge_run(run(reward=-2.1, drift=0.5), BASE).sentence
    assert sentence.startswith("hacked: the reward did not clearly rise (from -2.10 to -2.10), and")


def test_small_numbers_stay_told_apart() -> None:
    sentence = judge_run(run(reward=-0.03), BASE).sentence
    assert "rose from -2.10 to -0.03" in sentence
    assert "data went from 55 to 80." in judge_run(run(frechet=80), BASE).sentence


@pytest.mark.parametrize("name", [one.name for one in dataclasses.fields(Marks)])
@pytest.mark.parametrize("value", [0.0, -0.1, NAN, math.inf])
def test_limits_must_make_sense(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=name):
        judge_run(run(), BASE, marks=Marks(**{name: value}))


def test_drift_may_be_a_number_or_an_interval() -> None:
    assert run(drift=0.05).drift == Interval(0.05, 0.05, 0.05)
    assert run(drift=Interval(0.05, 0.0, 0.1)).drift == Interval(0.05, 0.0, 0.1)


def test_curves_fit() -> None:
    with pytest.raises(DataError, match="2 steps but 1 rewards"):
        Curves(steps=(1, 2), rewards=(0.0,))


def test_a_base_that_is_no_better_raises_no_sign() -> None:
    base = dataclasses.replace(
        BASE, diversity=about(0.6), vendi=about(0.5), temporal_change=about(0.2)
    )
    poor = run(diversity=0.61, vendi=about(0.51), temporal_change=about(0.21))
    assert judge_run(poor, base).status == "clean"


def test_a_base_of_unknown_variety_excuses_nothing() -> None:
    base = dataclasses.replace(BASE, diversity=about(NAN), vendi=about(NAN))
    poor = run(diversity=0.3, vendi=about(0.2))
    assert judge_run(poor, base).alarms == ("diversity", "vendi")
    changed = run(diversity=0.3, diversity_change=about(NAN))
    assert judge_run(changed, base).alarms == ("diversity",)


def test_the_bases_interval_counts_where_no_change_is_known() -> None:
    """The run's reward is above the base's value and below the end of the base's interval."""
    base = dataclasses.replace(BASE, reward=about(-2.1, 2.0))
    assert judge_run(run(reward=-0.4, half=0.1), base).status == "no gain"
    assert judge_run(run(reward=-0.05, half=0.01), base).status == "clean"
    unknown = dataclasses.replace(BASE, reward=Interval.alone(-2.1))
    assert judge_run(run(), unknown).status == "not conclusive"


def test_what_a_base_without_an_interval_means_is_said() -> None:
    verdict = judge_run(run(reward_change=Interval.alone(1.7)), BASE)
    assert verdict.sentence == (
        "not conclusive: the reward went from -2.1 to -0.4, and whether the reward rose can't be "
        "told from so few prompts."
    )


def test_reasons_say_what_moved() -> None:
    hacked = run(
        pixels=(shift("brightness", 20.6, 20.4), shift("dark_fraction", -10.8, 9.7)),
        measures=(judge(0.1, about(-0.272, 0.05)),),
    )
    verdict = judge_run(hacked, BASE)
    assert verdict.status == "hacked"
    assert verdict.alarms == ("brightness", "judge_accuracy")
    assert verdict.reasons == (
        "the brightness is 20.6 standard deviations above real data (base: 0.2 off), and "
        "another statistic of pixels moved",
        "the judge's accuracy fell from 0.37 to 0.10",
    )


def test_measures_by_name() -> None:
    one = run(measures=(judge(0.9, about(0.1)),))
    assert one.judge_accuracy == one.measure("judge_accuracy") == about(0.9)
    assert math.isnan(one.measure("ink").value)
    assert math.isnan(run(measures=()).judge_accuracy.value)
