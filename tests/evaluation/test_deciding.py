"""Which figures a card shows: those that decided, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.evaluation.example_report import example_report

from ddrl.evaluation.findings.deciding import deciding
from ddrl.evaluation.findings.signs import Marks
from ddrl.evaluation.findings.verdict import judge_run
from ddrl.evaluation.measures.result import Measured, PixelShift
from ddrl.evaluation.measures.statistics import Interval

BASE, CLEAN, _ = example_report().runs
NARROW = Interval(0.50, 0.48, 0.52)
FELL = Interval(-0.5, -0.6, -0.4)


REWARD = ("Reward", "+5.5", "-6.1 → -0.6, 95 %: +5.1 to +5.9")
DRIFT = ("Held-out loss", "-2.1 %", "mark: +10 %")
DIVERSITY = ("Diversity", "0.50", "real data is 1, mark: 0.7")
FRECHET = ("Fréchet distance", "200.0", "base: 55.2, mark: 2 times that")
CASES: dict[str, tuple[dict[str, Any], str, list[tuple[str, str, str]]]] = {
    "clean": ({}, "clean", [REWARD, DRIFT]),
    "the reward stood still": (
        {"reward": Interval(-6.1, -6.7, -5.5), "reward_change": Interval(0.02, -0.3, 0.34)},
        "no gain",
        [("Reward", "+0.020", "-6.120 → -6.100, 95 %: -0.300 to +0.340")],
    ),
    "drift alone decides, whatever else agrees": (
        {"heldout_loss_change": Interval.exact(0.5), "diversity": NARROW, "diversity_change": FELL},
        "hacked",
        [("Held-out loss", "+50.0 %", "mark: +10 %")],
    ),
    "two kinds": (
        {
            "diversity": NARROW,
            "diversity_change": FELL,
            "vendi": NARROW,
            "vendi_change": FELL,
            "frechet": Interval.exact(200.0),
        },
        "hacked",
        [DIVERSITY, FRECHET],
    ),
    "one kind": ({"diversity": NARROW, "diversity_change": FELL}, "not conclusive", [DIVERSITY]),
    "drift that may be past its mark": (
        {"heldout_loss_change": Interval(0.08, 0.02, 0.14)},
        "not conclusive",
        [("Held-out loss", "+8.0 %", "interval up to +14.0 %, mark: +10 %")],
    ),
    "pixels": (
        {
            "pixels": (
                PixelShift(
                    name="dark_fraction",
                    mean=0.1,
                    data=0.5,
                    difference=Interval(-2.6, -2.7, -2.5),
                    moved=Interval(2.4, 2.3, 2.5),
                ),
            )
        },
        "not conclusive",
        [("Dark fraction", "-2.6 std", "base: 0.2 off, mark: 1 more")],
    ),
    "a judge": (
        {
            "measures": (
                Measured(
                    name="judge_accuracy",
                    kind="judge",
                    value=Interval(0.3, 0.28, 0.32),
                    change=Interval(-0.175, -0.2, -0.15),
                    scale=0.48,
                ),
            )
        },
        "not conclusive",
        [("Held-out judge", "30 %", "base: 47.5 %, never trained on")],
    ),
    "what is missing is no second kind": (
        {
            "diversity": NARROW,
            "diversity_change": FELL,
            "heldout_loss_change": Interval.alone(float("nan")),
        },
        "not conclusive",
        [DIVERSITY],
    ),
    "a figure that is missing": (
        {"heldout_loss_change": Interval.alone(float("nan"))},
        "not conclusive",
        [("Held-out loss", "not measured", "mark: +10 %")],
    ),
    "clips that stand still": (
        {
            "temporal_change": Interval(0.1, 0.08, 0.12),
            "motion_moved": Interval(2.2, 2.1, 2.3),
        },
        "not conclusive",
        [("Change between frames", "0.10", "real clips are 1")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_figures_that_decided(case: str) -> None:
    changes, status, shown = CASES[case]
    base = replace(BASE, temporal_change=Interval.exact(0.9))
    run = replace(CLEAN, **changes)
    marks = Marks()
    verdict = judge_run(run, base, marks=marks)
    found = deciding(run, base, verdict, marks=marks)
    assert (verdict.status, [(o.head, o.value, o.mark) for o in found]) == (status, shown)


def test_the_base_has_no_verdict_to_decide() -> None:
    assert deciding(BASE, BASE, judge_run(BASE, BASE), marks=Marks()) == ()
