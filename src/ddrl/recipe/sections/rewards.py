"""The sections of rewards: those trained on, those held out, and how several become one."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ddrl.recipe.sections.base import Options, Section


class _Named(Section):
    name: str = Field(
        min_length=1, description="Registered name of the reward, or `package.module:Class`."
    )
    label: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_.-]*$",
        description="What logs, metrics and pages call it, so that a reward can stand here several "
        "times with other options; empty = its name.",
    )

    @property
    def title(self) -> str:
        """What the reward is called wherever it is told from others."""
        return self.label or self.name.rpartition(":")[2]


class _Weighted(_Named):
    weight: float = Field(
        1.0, description="Factor in the sum of rewards; 0 = measured, but not optimised."
    )


class _Called(Section):
    timeout: float = Field(
        0.0,
        ge=0,
        description="Seconds until all samples of a step (or of an evaluation) must be scored, "
        "retries included, from when the last of them was handed over; those without an answer by "
        "then have no reward; 0 = no limit.",
    )
    retries: int = Field(
        0,
        ge=0,
        le=100,
        description="How often a call that raised is made again, after 1, 2, 4, ... seconds, at "
        "most 60.",
    )
    samples_per_call: int = Field(
        0,
        ge=0,
        description="Samples that the reward is given at once, so that what fails or is late costs "
        "no more than these; of a reward of whole groups as many groups as fit, at least one; "
        "0 = a micro-batch, or all where there is one.",
    )
    cache: bool = Field(
        False,
        description="Keep results in `run.cache`, by content of sample and prompt, and take those "
        "of the same samples from there; for rewards that cost much and are deterministic.",
    )
    options: Options = Field(
        default_factory=dict, description="The reward's own options, one key each."
    )


class HeldoutRewardSection(_Called, _Named):
    """A reward that is measured by the audit and never trained on."""


class RewardSection(_Called, _Weighted):
    """One reward; a recipe lists at least one."""


class ScoringSection(Section):
    """How rewards become one, and what happens when one fails: it never becomes a number."""

    combine: Literal["sum", "normalized", "lower_confidence"] = Field(
        "sum",
        description="Weighted sum of the raw values; or of each reward less its mean and over its "
        "standard deviation in the step; or of these the weighted mean less `kappa` weighted "
        "standard deviations between rewards, for an ensemble.",
    )
    kappa: float = Field(
        1.0,
        ge=0,
        description="Standard deviations between rewards that are taken off their mean "
        "(`lower_confidence` only).",
    )
    on_failure: Literal["drop_sample", "drop_group", "abort"] = Field(
        "abort", description="Leave out the sample, leave out its whole group, or stop the run."
    )
    max_failed_share: float = Field(
        0.25, ge=0, le=1, description="Stop when more than this share of a step's samples fail."
    )
    overlap: bool = Field(
        True,
        description="Score each micro-batch while the next one is rolled out; false = only when "
        "all are, for a device without room for both (`run.micro_batch` only).",
    )
