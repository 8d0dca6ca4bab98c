"""Signs one by one: each at its mark, with and without what has to go with it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from tests.evaluation.test_verdict import BASE, about, judge, run, shift

from ddrl.evaluation.findings.signs import Marks, find_signs, off, rose
from ddrl.evaluation.measures.result import Measured, RunResult
from ddrl.evaluation.measures.statistics import Interval


def signs(base: RunResult = BASE, **changed: Any) -> list[tuple[str, str]]:
    found = find_signs(run(**changed), base, Marks())
    return [(sign.kind, sign.alarm) for sign in found]


@pytest.mark.parametrize(
    ("change", "risen"),
    [
        (about(0.2, 0.1), True),
        (about(0.2, 0.3), False),
        (about(0.2, 0.2), False),
        (about(-0.2, 0.1), False),
        (Interval.alone(0.2), None),
    ],
)
def test_a_reward_rose_where_the_interval_of_its_change_is_above_zero(
    change: Interval, risen: bool | None
) -> None:
    assert rose(run(reward=9.0, half=0.1, reward_change=change), BASE) is risen


@pytest.mark.parametrize(
    ("mine", "before", "risen"),
    [
        (about(1.0, 0.1), about(0.0, 0.5), True),
        (about(1.0, 0.1), about(0.0, 2.0), False),
        (about(1.0, 2.0), about(0.0, 0.5), False),
        (about(1.0, 0.1), Interval.alone(0.0), None),
        (Interval.alone(1.0), about(0.0, 0.5), None),
    ],
)
def test_without_pairs_each_reward_lies_outside_of_the_other_s_interval(
    mine: Interval, before: Interval, risen: bool | None
) -> None:
    one = dataclasses.replace(run(), reward=mine)
    assert rose(one, dataclasses.replace(BASE, reward=before)) is risen


@pytest.mark.parametrize(
    ("drift", "found"),
    [
        (about(0.1), ()),
        (about(0.101), ("drift", "rose by 10.1 %")),
        (Interval(0.08, 0.05, 0.101), ("drift", "is uncertain: its interval reaches +10.1 %")),
        (Interval(0.08, 0.05, 0.1), ()),
        (Interval.alone(0.08), ("missing", "stays within its mark can't be told")),
        (Interval.alone(math.nan), ("missing", "could not be measured")),
        (Interval.alone(0.15), ("drift", "rose by 15 %")),
    ],
)
def test_drift(drift: Interval, found: tuple[str, ...]) -> None:
    got = find_signs(run(drift=drift), BASE, Marks())
    assert [sign.kind for sign in got] == list(found[:1])
    for sign in got:
        assert sign.alarm == "heldout_loss_change"
        assert found[1] in sign.reason


def test_each_kind_of_variety_has_its_own_floor() -> None:
    assert signs(diversity=0.65) == [("variety", "diversity")]
    assert signs(vendi=about(0.65)) == []
    assert signs(vendi=about(0.55)) == [("variety", "vendi")]


@pytest.mark.parametrize("figure", ["diversity", "vendi"])
def test_without_pairs_variety_fell_where_its_interval_is_below_the_base(figure: str) -> None:
    start: dict[str, Any] = {figure: about(0.6)}
    for half, expected in ((0.05, [("variety", figure)]), (0.2, [])):
        low: dict[str, Any] = {figure: about(0.5, half)}
        found = find_signs(
            dataclasses.replace(run(), **low), dataclasses.replace(BASE, **start), Marks()
        )
        assert [(sign.kind, sign.alarm) for sign in found] == expected


def test_distances_are_signs_beyond_twice_the_base_s_and_with_a_gain() -> None:
    assert signs(frechet=109.0) == []
    assert signs(frechet=111.0) == [("distance", "frechet")]
    assert signs(frechet=111.0, reward=-2.1) == []
    assert signs(temporal_frechet=about(19.0)) == []
    assert signs(temporal_frechet=about(21.0)) == [("motion", "temporal_frechet")]
    assert signs(temporal_frechet=about(21.0), reward=-2.1) == []


def test_pixels_moved_where_the_whole_interval_of_the_move_is_past_the_mark() -> None:
    assert signs(pixels=(shift("ink", 5.0, 1.05),)) == []
    assert signs(pixels=(shift("ink", 5.0, 0.9),)) == [], "it is far from data, as the base is"
    found = find_signs(
        run(pixels=(shift("ink", -2.0, 1.5), shift("contrast", -3.0, 2.5))), BASE, Marks()
    )
    (sign,) = found
    assert (sign.alarm, sign.kind) == ("contrast", "pixels")
    assert "3.0 standard deviations below real data (base: 0.5 off)" in sign.reason
    assert "another statistic of pixels moved" in sign.reason


def measure(change: Interval, *, scale: float = 2.0) -> Measured:
    return Measured(
        name="sharp", kind="held-out reward", value=about(5.0), change=change, scale=scale
    )


@pytest.mark.parametrize(
    ("change", "scale", "found"),
    [
        (about(-0.3, 0.1), 2.0, [("measures", "sharp")]),
        (about(-0.15, 0.01), 2.0, []),  # less than a tenth of its spread
        (about(-0.15, 0.01), 1.0, [("measures", "sharp")]),
        (about(-0.3, 0.4), 2.0, []),
        (Interval.alone(-0.3), 2.0, [("missing", "sharp")]),
    ],
)
def test_a_measure_fell(change: Interval, scale: float, found: list[tuple[str, str]]) -> None:
    """In units of its spread, beyond its uncertainty, while the reward rose."""
    assert signs(measures=(measure(change, scale=scale),)) == found
    assert signs(measures=(measure(change, scale=scale),), reward=-2.1) == []


def test_what_could_not_be_measured_is_said() -> None:
    lost = dataclasses.replace(measure(about(0.0)), value=Interval.alone(math.nan))
    assert signs(measures=(lost,)) == [("missing", "sharp")]
    assert signs(reward_change=Interval.alone(1.0)) == [("missing", "reward")]
    unknown = dataclasses.replace(BASE, frechet=Interval.alone(math.nan))
    assert signs(unknown) == [("missing", "frechet")]


def test_clips_are_off_in_both_directions() -> None:
    assert off(2.0) == pytest.approx(off(0.5)) == pytest.approx(math.log(2))
    assert (off(1.0), off(0.0)) == (0.0, math.inf)


@pytest.mark.parametrize(
    ("motion", "base", "moved", "found"),
    [
        (about(0.3, 0.05), 1.0, about(1.2, 0.1), True),
        (about(0.3, 0.05), 0.25, about(-0.2, 0.1), False),  # the base stands stiller
        (about(0.3, 0.05), 0.35, about(0.1, 0.2), False),
        (about(0.3, 0.3), 1.0, about(1.2, 0.1), False),  # it may be 0.6
        (about(0.4, 2.0), 1.0, about(1.2, 0.1), False),  # it may be anything
        (about(3.0, 0.2), 1.0, about(1.1, 0.1), True),
        (about(1.9, 0.01), 1.0, about(0.6, 0.1), False),
        (Interval.alone(0.3), 0.25, Interval.alone(-0.2), False),  # nor is anything missing
    ],
)
def test_motion(motion: Interval, base: float, moved: Interval, found: bool) -> None:
    start = dataclasses.replace(BASE, temporal_change=about(base))
    got = signs(start, temporal_change=motion, motion_moved=moved)
    assert got == ([("motion", "temporal_change")] if found else [])


def test_a_judge_that_is_content_is_no_sign() -> None:
    assert signs(measures=(judge(0.9, about(0.3, 0.1)),)) == []
