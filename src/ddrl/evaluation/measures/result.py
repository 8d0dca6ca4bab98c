"""What is measured of one model: the base, or a run that started from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ddrl.errors import DataError
from ddrl.evaluation.measures.statistics import Interval

UNKNOWN = Interval.alone(math.nan)


@dataclass(frozen=True)
class Curves:
    """What was recorded while a run trained.

    Attributes:
        steps: training step of each reward.
        rewards: mean training reward at each of `steps`, in the reward's unit.
        evaluations: (step, held-out loss change as a fraction) at each evaluation.

    Raises:
        DataError: `steps` and `rewards` of unequal length.
    """

    steps: tuple[int, ...] = ()
    rewards: tuple[float, ...] = ()
    evaluations: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.rewards):
            raise DataError(f"A curve has {len(self.steps)} steps but {len(self.rewards)} rewards.")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A measure that training never saw: a judge, or a held-out reward. More is better.

    Attributes:
        name: key of the measure, distinct in a run.
        kind: what it is.
        value: mean over the samples.
        change: mean of the difference to the base's sample of the same prompt and noise.
        scale: standard deviation of the base's values over samples: the unit that changes of
            different measures are compared in.
        cause: why some samples, or all, have no value; empty: all have one.
    """

    name: str
    kind: Literal["judge", "held-out reward"]
    value: Interval
    change: Interval = UNKNOWN
    scale: float = math.nan
    cause: str = ""


@dataclass(frozen=True, kw_only=True)
class PixelShift:
    """One statistic of pixels against real data.

    Attributes:
        name: of the statistic.
        mean: over the samples.
        data: mean over real data.
        difference: (mean - data) in standard deviations of real data.
        moved: how much farther from data than the base, in the same unit: |difference| less the
            base's, paired by prompt and noise. Negative where training came closer to data.
    """

    name: str
    mean: float
    data: float
    difference: Interval
    moved: Interval = UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Regression:
    """One prompt, before and after.

    Attributes:
        prompt_id: its place among the report's prompts.
        reward: mean trained reward of the base and of the run.
        measures: per measure that training never saw: mean of the base and of the run.
        worst: the measure that fell most, in units of its spread; "reward" if there is no other.
        change: that change, in standard deviations of the base's values; negative is worse.
    """

    prompt_id: int
    reward: tuple[float, float]
    measures: tuple[tuple[str, float, float], ...]
    worst: str
    change: float


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """One model's measurements: the base, or a run that started from it.

    Attributes:
        name: unique key of the run (its folder).
        label: what readers see, "DDRL".
        reward: mean of the trained reward over the evaluation samples.
        frechet: squared Fréchet distance to held-out real data.
        diversity: mean distance between samples of one prompt, as a ratio to real data.
        heldout_loss_change: change of the diffusion loss on held-out real data against the base,
            as a fraction: 0.126 is +12.6 %.
        measures: judges and held-out rewards.
        vendi: effective number of different samples of one prompt, as a ratio to real data.
        real_vendi: that number of real data, at as many samples; NaN where it is not known.
        reward_change: mean difference in the trained reward to the base's sample of the same
            prompt and noise.
        diversity_change: diversity less the base's, paired by prompt and noise.
        vendi_change: vendi less the base's, paired by prompt and noise.
        motion_moved: how much farther from 1 `temporal_change` is than the base's, in logarithms,
            paired by prompt and noise.
        pixels: statistics of pixels against real data.
        temporal_frechet: Fréchet distance of temporal features; NaN for images.
        temporal_change: mean change between neighbouring frames, as a ratio to real data.
        temporal_consistency: mean cosine between neighbouring frames, as a ratio to real data.
        regressions: the prompts that lost most, worst first.
        is_base: whether this is the model before post-training.
        method: one line, "DDRL, data regularizer, beta 1.0".
        num_steps: optimizer steps of the post-training.
        seconds: wall time of the post-training.
        recipe: the settings in short, for the footer.
        curves: what was recorded while it trained.
    """

    name: str
    label: str
    reward: Interval
    frechet: Interval
    diversity: Interval
    heldout_loss_change: Interval | float
    measures: tuple[Measured, ...] = ()
    vendi: Interval = UNKNOWN
    real_vendi: float = math.nan
    reward_change: Interval = UNKNOWN
    diversity_change: Interval = UNKNOWN
    vendi_change: Interval = UNKNOWN
    motion_moved: Interval = UNKNOWN
    pixels: tuple[PixelShift, ...] = ()
    temporal_frechet: Interval = UNKNOWN
    temporal_change: Interval = UNKNOWN
    temporal_consistency: Interval = UNKNOWN
    regressions: tuple[Regression, ...] = ()
    is_base: bool = False
    method: str = ""
    num_steps: int = 0
    seconds: float = 0.0
    recipe: str = ""
    curves: Curves = field(default_factory=Curves)

    @property
    def drift(self) -> Interval:
        """`heldout_loss_change` as an interval, of no width if it was given as a number."""
        given = self.heldout_loss_change
        return given if isinstance(given, Interval) else Interval.exact(float(given))

    @property
    def judge_accuracy(self) -> Interval:
        """The measure of this name: the share of samples that a judge accepts; NaN without one."""
        return self.measure("judge_accuracy")

    def measure(self, name: str) -> Interval:
        """Return a judge's or held-out reward's value; NaN where the run has none of its name."""
        return next((one.value for one in self.measures if one.name == name), UNKNOWN)
