from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ddrl.evaluation.findings.reward_audit import PROMPTS, Copy, RewardAudit, as_json, shuffled
from ddrl.evaluation.findings.reward_findings import findings
from ddrl.evaluation.pages.reward_chart import audit_chart
from ddrl.evaluation.pages.reward_page import facts, render_audit, table

Numbers = NDArray[np.float64]


def make(values: Numbers, copies: dict[str, Numbers], **more: Any) -> RewardAudit:
    everyone = np.ones(len(values), dtype=bool)
    given: dict[str, Any] = {
        "reward": "planted",
        "options": {},
        "data": "numbers",
        "originals": values,
        "again": values,
        "reordered": values,
        "alone": values,
        "copies": tuple(Copy(name, name, scores, everyone) for name, scores in copies.items()),
        "samples_per_second": 10.0,
        "num_prompts": 5,
    }
    return RewardAudit(**{**given, **more})


VALUES = np.random.default_rng(0).normal(3.0, 2.0, 100)


def test_differences_are_paired_and_standardised() -> None:
    audit = make(VALUES, {PROMPTS: VALUES - 4, "blur": VALUES[::-1] + 1})
    prompts, blur = audit.rows
    assert prompts.difference.value == pytest.approx(-4)
    assert prompts.difference.high - prompts.difference.low < 1e-9  # paired: each falls by 4
    assert prompts.standardised == pytest.approx(-4 / VALUES.std())
    assert blur.difference.value == pytest.approx(1)
    error = (VALUES[::-1] - VALUES).std() / math.sqrt(len(VALUES))
    assert blur.difference.high - blur.difference.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert blur.joint.low < blur.difference.low < blur.difference.high < blur.joint.high


def test_failed_samples_are_left_out_of_both_sides() -> None:
    values, copy = VALUES.copy(), VALUES + 1
    values[:10], copy[5:20] = np.nan, np.nan
    audit = make(values, {"blur": copy})
    assert (audit.rows[0].num, audit.rows[0].num_failed) == (80, 15)
    assert audit.rows[0].difference.value == pytest.approx(1)


def test_a_rise_below_the_mark_is_no_preference() -> None:
    for rise, expected in ((0.05, False), (0.2, True)):
        audit = make(VALUES, {PROMPTS: VALUES - 1, "noise": VALUES + rise * VALUES.std()})
        assert ("prefers_noise" in {one.kind for one in findings(audit)}) == expected


def test_equal_originals_are_not_constant_if_copies_differ() -> None:
    ones = np.ones(20)
    audit = make(ones, {PROMPTS: ones - 0.9, "blank": ones - 1})
    found = findings(audit)
    assert [one.kind for one in found] == ["crowded"]
    assert found[0].text.startswith("100 % of the originals have the largest score, 1.00")
    assert math.isnan(audit.rows[0].standardised)
    assert as_json(audit, found)["copies"][0]["standardised"] is None
    assert audit_chart(audit) is not None


def test_a_constant_reward_has_no_chart() -> None:
    audit = make(np.ones(5), {PROMPTS: np.ones(5)})
    assert audit_chart(audit) is None
    assert "constant" in render_audit(audit, findings(audit))


def test_repetition_is_measured_in_the_originals_deviations() -> None:
    again = VALUES.copy()
    again[3] += 0.01 * VALUES.std()
    (one,) = findings(make(VALUES, {PROMPTS: VALUES - 5}, again=again))
    assert one.kind == "not_repeatable"
    assert "0.01 standard deviations" in one.text
    again[3] = VALUES[3] + 1e-4 * VALUES.std()
    assert findings(make(VALUES, {PROMPTS: VALUES - 5}, again=again)) == ()


@pytest.mark.parametrize("counts", [(1,) * 7, (3, 3, 3), (5, 2, 2, 1), (2, 2), (4, 3, 1)])
def test_shuffled_prompts_are_all_used_and_none_is_its_own(counts: tuple[int, ...]) -> None:
    texts = [f"text {i}" for i, count in enumerate(counts) for _ in range(count)]
    for seed in range(20):
        given = shuffled(texts, seed=seed)
        assert sorted(given) == list(range(len(texts)))
        assert all(texts[place] != text for place, text in zip(given, texts, strict=True))


def test_a_text_that_most_share_is_changed_where_it_can_be() -> None:
    texts = ["a"] * 7 + ["b"] * 3
    given = shuffled(texts, seed=0)
    differ = Counter(text for place, text in zip(given, texts, strict=True) if texts[place] != text)
    assert differ == {"a": 3, "b": 3}


def test_chance_is_rarely_told_to_prefer_something() -> None:
    rng = np.random.default_rng(1)
    names = ("blur", "noise", "grey", "blank", "jpeg", "saturation_up")
    told = 0
    for _ in range(8):
        copies = {name: rng.normal(size=60) for name in (PROMPTS, *names)}
        found = findings(make(rng.normal(size=60), copies))
        told += any(one.kind.startswith("prefers") for one in found)
    assert told <= 1  # 5 % of both sides and all copies together


def test_the_page_escapes_and_repeats_itself() -> None:
    audit = make(VALUES, {PROMPTS: VALUES - 1}, reward="<b>x</b>", data="a & b")
    page = render_audit(audit, findings(audit))
    assert "&lt;b&gt;x" in page
    assert "<b>x" not in page
    assert page == render_audit(audit, findings(audit))
    assert [line.label for line in table(audit)] == ["originals", PROMPTS]


def test_intervals_are_over_prompts_where_prompts_share_samples() -> None:
    """Ten prompts of ten samples that all fall by their prompt's own amount."""
    prompt_id = np.repeat(np.arange(10), 10)
    change = np.random.default_rng(0).standard_normal(10)[prompt_id]
    many = make(VALUES, {"blur": VALUES + change}).rows[0].difference
    ten = make(VALUES, {"blur": VALUES + change}, prompt_id=prompt_id).rows[0].difference
    assert ten.value == many.value
    assert ten.high - ten.low > 3 * (many.high - many.low)
    only = make(VALUES, {"blur": VALUES + change}, prompt_id=prompt_id, unit="sample")
    assert only.rows[0].difference.high == pytest.approx(ten.value), "the prompts stay the same"


def test_what_is_found_of_few_prompts_is_about_these() -> None:
    prompt_id, change = np.repeat(np.arange(4), 25), np.tile([1.0, 1.1, 0.9, 1.2, 0.8], 20)
    audit = make(VALUES, {"blur": VALUES + change}, prompt_id=prompt_id, num_prompts=4)
    assert audit.unit == "sample"
    assert "prefers_blur" in [one.kind for one in findings(audit)]
    assert "4 distinct; intervals are over samples of these prompts" in facts(audit).values()
    assert as_json(audit, ())["unit"] == "sample"


def test_few_samples_of_few_prompts_can_not_tell_and_the_findings_say_so() -> None:
    few, prompt_id = VALUES[:12], np.repeat(np.arange(4), 3)
    audit = make(few, {"blur": few[::-1] + 1}, prompt_id=prompt_id, num_prompts=4)
    kinds = [one.kind for one in findings(audit)]
    assert "too_few_samples" in kinds
    assert "prefers_blur" not in kinds
    assert as_json(audit, ())["copies"][0]["interval"] == [None, None]
    assert "no interval" in render_audit(audit, findings(audit))
    assert audit_chart(audit) is not None
