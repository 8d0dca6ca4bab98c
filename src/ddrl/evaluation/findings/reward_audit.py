"""Does a reward measure what one thinks? Its scores of originals beside those of changed copies.

A copy's difference is paired: copy minus original of each sample. Findings hold at 95 % over all
copies together (Bonferroni), and what is said to be preferred also rises by a tenth of the
originals' standard deviation; the intervals of the table are 95 % each.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddrl.evaluation.measures.statistics import LEAST_FREEDOM, Interval, Unit, finite, mean_interval

FORMAT = "ddrl-reward-audit/1"
PROMPTS = "shuffled_prompts"
"""The copy that has the original picture and another sample's prompt."""

SMALL_EFFECT = 0.1
"""Standard deviations of the originals below which a rise is not called a preference."""
UNEQUAL = 1e-3
"""Standard deviations by which two scores of one sample may differ before it is a finding."""
CROWDED = 0.5
"""Share of the originals that may have the largest score before it is a finding."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Copy:
    """The scores of one kind of copies.

    Attributes:
        name: of the change.
        label: name of the change, for tables.
        values: (N,) score of each sample's copy; NaN where there is none.
        compared: (N,) whether the copy differs from the original at all.
        cause: why the first failed sample has no score; empty if none failed.
        picture: uint8 (H, W, 3), the first sample's copy; None where only the prompt changes.
    """

    name: str
    label: str
    values: Numbers
    compared: NDArray[np.bool_]
    cause: str = ""
    picture: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Row:
    """What a kind of copies did to the score.

    Attributes:
        name: of the change.
        label: name of the change, for tables.
        num: samples that both have a score and a copy that differs; 0 leaves the rest NaN.
        num_failed: samples whose copy has no score.
        mean: of the copies.
        difference: copy minus original, with its 95 % interval.
        joint: the same, with an interval that holds at 95 % over all copies together.
        standardised: the difference in standard deviations of the originals; NaN if that is 0.
        is_exact: whether no score changed at all.
    """

    name: str
    label: str
    num: int
    num_failed: int
    mean: float
    difference: Interval
    joint: Interval
    standardised: float
    is_exact: bool


@dataclass(frozen=True)
class Finding:
    """Something about the reward, in a sentence.

    Attributes:
        kind: a name for programs.
        level: ``problem``, or ``note`` where it depends on what one wants.
        text: one or two sentences.
    """

    kind: str
    level: Literal["problem", "note"]
    text: str


@dataclass(frozen=True)
class RewardAudit:
    """Everything that was scored, and what follows from it.

    Attributes:
        reward: its name.
        options: its options.
        data: where the samples are from, in words.
        originals: (N,) scores; NaN where there is none.
        again: (N,) scores of the same samples, computed once more right away.
        reordered: (N,) scores of the same batches in the reverse order.
        alone: (N,) scores of samples in a batch of one; NaN where that was not done.
        copies: the changed copies.
        samples_per_second: of scoring the originals for the second time.
        num_prompts: distinct prompts.
        prompt_id: (N,) the prompt of each sample, which intervals are over; None: each has another.
        unit: what intervals are over; samples, where all prompts that matter are there. Of fewer
            than five prompts it is samples, too: what is found is then about these prompts.
        cause: why the first original without a score has none.
        picture: uint8 (H, W, 3), the first sample; of a clip its middle frame.
        ignores_prompt: whether its card says that the prompt counts for nothing.
        command: the command line that repeats the audit.
    """

    reward: str
    options: dict[str, object]
    data: str
    originals: Numbers
    again: Numbers
    reordered: Numbers
    alone: Numbers
    copies: tuple[Copy, ...]
    samples_per_second: float
    num_prompts: int
    prompt_id: NDArray[np.int64] | None = None
    unit: Unit = "prompt"
    cause: str = ""
    picture: NDArray[np.uint8] | None = None
    ignores_prompt: bool = False
    command: str = ""
    rows: tuple[Row, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.num_prompts <= LEAST_FREEDOM:
            object.__setattr__(self, "unit", "sample")
        level = 1 - 0.05 / max(len(self.copies), 1)
        rows = tuple(self._row(copy, level) for copy in self.copies)
        object.__setattr__(self, "rows", rows)

    @property
    def known(self) -> Numbers:
        """The scores of the originals that have one."""
        return self.originals[np.isfinite(self.originals)]

    @property
    def deviation(self) -> float:
        """Standard deviation of the originals; 0 where rounding explains it."""
        deviation = float(self.known.std())
        return deviation if deviation > 1e-6 * max(1.0, float(abs(self.known).max())) else 0.0

    def largest_change(self, other: Numbers) -> float:
        """Return the largest difference to other scores of the samples, in the reward's unit."""
        change = abs(other - self.originals)
        change = change[np.isfinite(change)]
        return float(change.max()) if len(change) else math.nan

    @property
    def limit(self) -> float:
        """The difference between two scores of one sample that is still put down to rounding."""
        return UNEQUAL * self.deviation or 1e-6 * max(1.0, float(abs(self.known).max()))

    def _row(self, copy: Copy, level: float) -> Row:
        failed = int((~np.isfinite(copy.values)).sum())
        both = np.isfinite(copy.values) & np.isfinite(self.originals) & copy.compared
        values, change = copy.values[both], (copy.values - self.originals)[both]
        nothing = Interval.alone(math.nan)
        if not both.any():
            nan = math.nan
            return Row(copy.name, copy.label, 0, failed, nan, nothing, nothing, nan, is_exact=False)
        every = np.arange(len(both)) if self.prompt_id is None else self.prompt_id
        difference = mean_interval(change, every[both], unit=self.unit)
        joint = mean_interval(change, every[both], unit=self.unit, level=level)
        return Row(
            copy.name,
            copy.label,
            int(both.sum()),
            failed,
            float(values.mean()),
            difference,
            joint,
            difference.value / self.deviation if self.deviation else math.nan,
            is_exact=bool((abs(change) <= self.limit).all()),
        )


def shuffled(texts: Sequence[str], *, seed: int) -> list[int]:
    """For each sample another one, whose prompt it gets: a permutation of the positions.

    All texts differ from their own, unless more than half of the samples share one text; then as
    many as can do.
    """
    rng = random.Random(seed)
    places: dict[str, list[int]] = defaultdict(list)
    for place, text in enumerate(texts):
        places[text].append(place)
    groups = list(places.values())
    rng.shuffle(groups)
    for group in groups:
        rng.shuffle(group)
    # In runs of equal texts, a step as long as the longest run leaves every run behind.
    order = [place for group in groups for place in group]
    step = max(Counter(texts).values(), default=0)
    given = [0] * len(texts)
    for at, place in enumerate(order):
        given[place] = order[(at + step) % len(order)]
    return given


def as_json(audit: RewardAudit, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the audit's numbers in types of JSON; what is not known is null."""
    known = audit.known
    return {
        "format": FORMAT,
        "reward": audit.reward,
        "options": audit.options,
        "data": audit.data,
        "num_samples": len(audit.originals),
        "num_failed": len(audit.originals) - len(known),
        "first_failure": audit.cause,
        "num_prompts": audit.num_prompts,
        "unit": audit.unit,
        "mean": finite(float(known.mean())),
        "standard_deviation": finite(audit.deviation),
        "range": [finite(float(known.min())), finite(float(known.max()))],
        "largest_change_when_repeated": finite(audit.largest_change(audit.again)),
        "largest_change_in_reverse_order": finite(audit.largest_change(audit.reordered)),
        "largest_change_alone": finite(audit.largest_change(audit.alone)),
        "samples_per_second": finite(audit.samples_per_second),
        "copies": [
            {
                "name": row.name,
                "num_compared": row.num,
                "num_failed": row.num_failed,
                "mean": finite(row.mean),
                "difference": finite(row.difference.value),
                "interval": [finite(row.difference.low), finite(row.difference.high)],
                "joint_interval": [finite(row.joint.low), finite(row.joint.high)],
                "standardised": finite(row.standardised),
            }
            for row in audit.rows
        ],
        "findings": [{"kind": one.kind, "level": one.level, "text": one.text} for one in findings],
        "command": audit.command,
    }
