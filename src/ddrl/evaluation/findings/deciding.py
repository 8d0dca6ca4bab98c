"""The one or two figures that decided a verdict, as a card shows them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ddrl.evaluation.findings.signs import Marks, Sign, find_signs
from ddrl.evaluation.findings.verdict import Verdict
from ddrl.evaluation.findings.wording import (
    NOT_MEASURED,
    number,
    pair,
    percent,
    sampled,
    signed_percent,
)
from ddrl.evaluation.measures.result import RunResult
from ddrl.evaluation.measures.statistics import Interval

DRIFT = "heldout_loss_change"


@dataclass(frozen=True)
class Decider:
    """A figure that decided.

    Attributes:
        head: what it is.
        value: as text.
        mark: where it decides, or what it is compared with.
        sampled: how much it was measured on; empty where that is not known.
    """

    head: str
    value: str
    mark: str
    sampled: str = ""


def deciding(
    run: RunResult, base: RunResult, verdict: Verdict, *, marks: Marks
) -> tuple[Decider, ...]:
    """Return the figures that decided a verdict, the strongest first.

    Of a hacked run that is the held-out loss, where it is past its mark, else one sign of each of
    two kinds; of one that is not conclusive its first sign; of one without a sign the change of the
    reward, and where that rose the held-out loss, which stayed within its mark.

    Args:
        run: the run.
        base: the model that it started from.
        verdict: of the run.
        marks: where signs begin.

    Returns:
        One or two figures; none for the base.
    """
    if verdict.status == "base":
        return ()
    if verdict.status in ("clean", "no gain"):
        reward = _reward(run, base)
        return (reward, _drift(run, marks)) if verdict.status == "clean" else (reward,)
    signs = find_signs(run, base, marks)
    if verdict.status == "hacked" and run.drift.value > marks.drift_limit:
        return (_drift(run, marks),)
    kinds: dict[str, Sign] = {}
    for sign in signs:
        kinds.setdefault(sign.kind, sign)
    missing = kinds.pop("missing", None)
    shown = list(kinds.values()) or ([missing] if missing else [])
    return tuple(_figure(sign, run, base, marks) for sign in shown[:2])


def _reward(run: RunResult, base: RunResult) -> Decider:
    """Its change; the interval of a run that gained is above 0."""
    before, after = pair(base.reward.value, run.reward.value)
    change = run.reward_change
    known = change.value if math.isfinite(change.value) else run.reward.value - base.reward.value
    digits = max(len(after.partition(".")[2]), 1)
    ends = ""
    if change.has_ends:
        low, high = (_signed(end, digits) for end in (change.low, change.high))
        ends = f", 95 %: {low} to {high}"
    return Decider("Reward", _signed(known, digits), f"{before} → {after}{ends}", _of(run.reward))


def _drift(run: RunResult, marks: Marks) -> Decider:
    mark = f"mark: +{percent(marks.drift_limit)}"
    if run.drift.has_ends and run.drift.value <= marks.drift_limit < run.drift.high:
        mark = f"interval up to {signed_percent(run.drift.high)}, {mark}"
    what = "held-out sample"
    value = signed_percent(run.drift.value)
    return Decider("Held-out loss", value, mark, _of(run.drift, what))


def _figure(sign: Sign, run: RunResult, base: RunResult, marks: Marks) -> Decider:
    """Return the figure behind a sign."""
    ratios = {
        "diversity": ("Diversity", run.diversity, marks.diversity_floor),
        "vendi": ("Vendi score", run.vendi, marks.vendi_floor),
    }
    distances = {
        "frechet": ("Fréchet distance", run.frechet, base.frechet),
        "temporal_frechet": (
            "Temporal Fréchet distance",
            run.temporal_frechet,
            base.temporal_frechet,
        ),
    }
    name = sign.alarm
    if name == DRIFT:
        return _drift(run, marks)
    if name in ratios:
        head, figure, floor = ratios[name]
        return Decider(head, number(figure.value), f"real data is 1, mark: {floor:g}", _of(figure))
    if name in distances:
        head, figure, before = distances[name]
        mark = f"base: {number(before.value, 1)}, mark: {marks.frechet_factor:g} times that"
        return Decider(head, number(figure.value, 1), mark, _of(figure))
    if name == "temporal_change":
        figure = run.temporal_change
        return Decider(
            "Change between frames", number(figure.value), "real clips are 1", _of(figure)
        )
    shift = next((one for one in run.pixels if one.name == name), None)
    if shift is not None:
        away = shift.difference.value
        before_off = number(abs(away) - shift.moved.value, 1)
        mark = f"base: {before_off} off, mark: {marks.pixel_mark:g} more"
        head = name.replace("_", " ").capitalize()
        return Decider(head, f"{_signed(away, 1)} std", mark, _of(shift.difference))
    return _measure(name, run, base)


def _measure(name: str, run: RunResult, base: RunResult) -> Decider:
    value, before = run.measure(name), base.measure(name)
    is_share = name == "judge_accuracy"
    head = "Held-out judge" if is_share else name.replace("_", " ")
    if not math.isfinite(value.value):
        return Decider(head, NOT_MEASURED, "never trained on", _of(value))
    texts = pair(before.value, value.value)
    if is_share:
        texts = percent(before.value), percent(value.value)
    return Decider(head, texts[1], f"base: {texts[0]}, never trained on", _of(value))


def _signed(value: float, decimals: int) -> str:
    text = number(value, decimals)
    return text if text == NOT_MEASURED or float(text) <= 0 else f"+{text}"


def _of(figure: Interval, what: str = "sample") -> str:
    return "" if figure.basis is None else sampled(figure.basis, what)
