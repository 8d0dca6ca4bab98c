"""What is wrong with a reward, in words, from an audit's numbers."""

from __future__ import annotations

import math

import numpy as np

from ddrl.evaluation.findings.reward_audit import (
    CROWDED,
    PROMPTS,
    SMALL_EFFECT,
    Finding,
    RewardAudit,
    Row,
)
from ddrl.evaluation.findings.wording import number, percent

# What a reward must not pay for, and as what it is told.
_PREFERENCES = {
    "blur": "blur",
    "jpeg": "compression artefacts",
    "noise": "noise",
    "saturation_up": "saturated colours",
    "saturation_down": "dull colours",
    "brightness_up": "brightness",
    "brightness_down": "darkness",
    "grey": "grey pictures",
    "blank": "blank pictures",
    "reversed": "clips played backwards",
    "frozen": "clips that stand still",
    "half_rate": "clips that jerk",
}


def findings(audit: RewardAudit) -> tuple[Finding, ...]:
    """Return what is wrong or worth knowing, problems first."""
    found = [*_stability(audit), *_failures(audit)]
    if _is_constant(audit):
        value = score_text(audit, float(audit.known[0]))
        text = f"It is constant: every original and every copy scores {value}."
        return (Finding("constant", "problem", text), *found)
    rows = {row.name: row for row in audit.rows}
    found += _prompt(rows.get(PROMPTS), is_declared=audit.ignores_prompt)
    found += _preferences(rows)
    found += [*_spread(audit), *_too_few(audit)]
    return tuple(sorted(found, key=lambda one: one.level != "problem"))


def score_text(audit: RewardAudit, value: float) -> str:
    """Return a score with decimals that show a hundredth of the originals' deviation."""
    scale = audit.deviation or max(abs(float(audit.known.mean())), 1e-6)
    return number(value, min(max(2 - math.floor(math.log10(scale)), 0), 6))


def _is_constant(audit: RewardAudit) -> bool:
    return audit.deviation == 0 and all(row.is_exact for row in audit.rows if row.num)


def _stability(audit: RewardAudit) -> list[Finding]:
    """Return whether a sample's score is its own: the same again, in any order, and alone."""
    if (change := audit.largest_change(audit.again)) > audit.limit:
        text = f"It is not repeatable: the same samples scored twice differ by up to {change:.2g}"
        return [Finding("not_repeatable", "problem", f"{text}{_in_deviations(audit, change)}.")]
    found = []
    if (change := audit.largest_change(audit.reordered)) > audit.limit:
        text = f"It depends on the order: a batch reversed changes scores by up to {change:.2g}"
        text = f"{text}{_in_deviations(audit, change)}."
        found.append(Finding("order_dependent", "problem", text))
    if (change := audit.largest_change(audit.alone)) > audit.limit:
        text = f"It depends on the batch: samples alone score otherwise by up to {change:.2g}"
        text = f"{text}{_in_deviations(audit, change)}."
        found.append(Finding("batch_dependent", "problem", text))
    return found


def _in_deviations(audit: RewardAudit, change: float) -> str:
    if not audit.deviation:
        return ""
    return f", {change / audit.deviation:.2g} standard deviations of the originals"


def _failures(audit: RewardAudit) -> list[Finding]:
    found = []
    if failed := int((~np.isfinite(audit.originals)).sum()):
        text = f"{failed} of {len(audit.originals)} originals have no score: {audit.cause}."
        found.append(Finding("failed", "problem", text))
    more = [
        copy for copy, row in zip(audit.copies, audit.rows, strict=True) if row.num_failed > failed
    ]
    if more:
        labels = "; ".join(copy.label for copy in more)
        text = f"Copies fail where originals do not ({labels}): {more[0].cause}."
        found.append(Finding("copies_failed", "note", text))
    return found


def _prompt(row: Row | None, *, is_declared: bool) -> list[Finding]:
    if row is None or not row.num:
        text = "All samples have the same prompt, so whether it counts was not tested."
        return [Finding("prompt_untested", "note", text)]
    if row.is_exact:
        text = "It is insensitive to the prompt: with the prompts of other samples, each sample "
        text += "scores the same"
        if is_declared:
            return [Finding("prompt_insensitive", "note", f"{text}, as its card says.")]
        return [Finding("prompt_insensitive", "problem", f"{text}.")]
    if row.joint.low > 0:
        text = "Prompts of other samples score higher than a sample's own"
        return [Finding("prompt_inverted", "problem", f"{text}, {_size(row)}.")]
    if row.joint.high >= 0:
        text = "It does not tell fitting prompts from others: those of other samples score no lower"
        text = f"{text} ({_size(row)})."
        return [Finding("prompt_insensitive", "problem", text)]
    return []


def _preferences(rows: dict[str, Row]) -> list[Finding]:
    found = []
    tested = [row for name, row in rows.items() if name != PROMPTS and row.num]
    if tested and all(row.is_exact for row in tested):
        text = "It does not look at the pictures: no change of them changes a score."
        return [Finding("picture_insensitive", "problem", text)]
    for name, what in _PREFERENCES.items():
        row = rows.get(name)
        if row is None or not row.num or not row.joint.low > 0:
            continue
        if math.isnan(row.standardised) or row.standardised >= SMALL_EFFECT:
            text = f"It prefers {what}: the score rises by {_size(row)}."
            found.append(Finding(f"prefers_{name}", "problem", text))
    blank = rows.get("blank")
    if blank is not None and blank.num and blank.joint.low <= 0 <= blank.joint.high:
        text = f"Blank pictures score no lower than the originals ({_size(blank)})."
        found.append(Finding("blank_unnoticed", "problem", text))
    frozen = rows.get("frozen")
    if frozen is not None and frozen.num and frozen.joint.low <= 0 <= frozen.joint.high:
        text = f"Clips that stand still score no lower ({_size(frozen)}): it does not ask "
        found.append(Finding("motion_unnoticed", "note", f"{text}for motion."))
    return found


def _spread(audit: RewardAudit) -> list[Finding]:
    top = float(audit.known.max())
    share = float((audit.known >= top - audit.limit).mean())
    if share < CROWDED or len(audit.known) < 2:
        return []
    text = f"{percent(share)} of the originals have the largest score, {score_text(audit, top)}: "
    return [Finding("crowded", "note", f"{text}it can't rank these.")]


def _too_few(audit: RewardAudit) -> list[Finding]:
    """Changes of which it can't be said whether they are chance."""
    unsure = [row.label for row in audit.rows if row.num and not row.joint.has_ends]
    if not unsure:
        return []
    text = (
        f"Five prompts, or five samples of each, are needed to say whether a change is chance "
        f"({'; '.join(unsure)}): there are {len(audit.originals)} samples of {audit.num_prompts}."
    )
    return [Finding("too_few_samples", "note", text)]


def _size(row: Row) -> str:
    """Return a difference in the reward's unit and in standard deviations."""
    if row.is_exact:
        return "the same"
    change = f"{row.difference.value:.3g}"
    if math.isnan(row.standardised):
        return change
    return f"{change}, {number(row.standardised)} standard deviations of the originals"
