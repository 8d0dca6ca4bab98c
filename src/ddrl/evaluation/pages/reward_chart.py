"""The chart of a reward's audit: what each change does to the score, with its interval."""

from __future__ import annotations

import math

import numpy as np

from ddrl.evaluation.findings.reward_audit import RewardAudit
from ddrl.evaluation.pages.charts import as_svg, empty_chart
from ddrl.evaluation.pages.palette import ALARM, INK, MUTED, run_colour

_TICKS = (-100.0, -30.0, -10.0, -3.0, -1.0, 0.0, 1.0, 3.0, 10.0, 30.0, 100.0)
_FELL, _SAME, _ROSE = run_colour(1), run_colour(0), ALARM


def audit_chart(audit: RewardAudit) -> str | None:
    """A bar for each kind of copies, with the 95 % interval; asinh of standard deviations.

    Where the originals do not differ, the unit is the largest difference of all.

    Returns:
        SVG text to put inline, or None where nothing was compared.
    """
    rows = [row for row in audit.rows if row.num]
    unit = audit.deviation or max((abs(row.difference.value) for row in rows), default=0.0)
    if not rows or not unit:
        return None
    name = (
        "standard deviations of the originals"
        if audit.deviation
        else "shares of the largest change"
    )
    figure, axes = empty_chart(f"change of the score, in\n{name}", "")
    figure.set_size_inches(440 / 72, (76 + 26 * len(rows)) / 72)  # legible on a phone
    places = np.arange(len(rows))[::-1]
    ends = [0.0]
    for place, row in zip(places, rows, strict=True):
        value, low, high = (
            math.asinh(end / unit)
            for end in (row.difference.value, row.difference.low, row.difference.high)
        )
        colour = _ROSE if row.joint.low > 0 else _FELL if row.joint.high < 0 else _SAME
        axes.barh([place], [value], height=0.62, color=colour, linewidth=0)
        if row.difference.has_ends:
            axes.plot([low, high], [place, place], color=INK, linewidth=1.4)
            ends += [low, high]
        ends.append(value)
    least, most = min(ends), max(ends)
    margin = 0.06 * (most - least)
    axes.set_xlim(least - margin, most + margin)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    shown = [tick for tick in _TICKS if least - margin <= math.asinh(tick) <= most + margin]
    if len(shown) < 3:
        shown = sorted({*shown, -0.3, -0.1, 0.1, 0.3})
        shown = [tick for tick in shown if least - margin <= math.asinh(tick) <= most + margin]
    texts = [f"{tick:+g}".replace("-", "\N{MINUS SIGN}") if tick else "0" for tick in shown]
    axes.set_xticks([math.asinh(tick) for tick in shown], texts)
    axes.set_yticks(places, [row.label for row in rows])
    axes.grid(visible=False)
    axes.axvline(0, color=MUTED, linewidth=1.0)
    return as_svg(figure, "audit")
