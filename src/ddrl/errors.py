"""Every error that ddrl raises on purpose, with the exit code of the command line.

DDRLError                      1   a fault of ddrl itself if it reaches the user bare
├── UsageError                 2   a wrong argument, option or command
│   └── RecipeError            2   a recipe that can't be run: file, line and key are named
├── DataError                  3   a data set, prompt or media file
│   └── WeightsError           3   model weights: missing, foreign or broken
├── RewardError                4   a reward that failed, or can't be had
├── CheckpointError            5   a checkpoint: unreadable, foreign, or not writable
└── GuardStop                  6   the run was stopped because it went wrong
    └── ReplayMismatch         6   the update does not see the rollout's log-probabilities

Each carries one sentence and, where there is one, a hint: what to do next.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "CheckpointError",
    "DDRLError",
    "DataError",
    "GuardStop",
    "RecipeError",
    "ReplayMismatch",
    "RewardError",
    "UsageError",
    "WeightsError",
]


class DDRLError(Exception):
    """The root of the tree.

    Args:
        message: one sentence that names the file, line, option or sample at fault.
        hint: what the user can do about it, or an empty string.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class UsageError(DDRLError):
    """A wrong argument, option or command."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe that can't be run."""


class DataError(DDRLError):
    """A data set, prompt or media file that can't be used."""

    exit_code = 3


class WeightsError(DataError):
    """Model weights that are missing, foreign or broken."""


class RewardError(DDRLError):
    """A reward that failed or can't be had."""

    exit_code = 4


class CheckpointError(DDRLError):
    """A checkpoint that can't be read, written, or used for this run."""

    exit_code = 5


class GuardStop(DDRLError):  # noqa: N818 - stopping is its purpose, not an accident
    """The run was stopped because it went wrong; the checkpoints from before are kept."""

    exit_code = 6


class ReplayMismatch(GuardStop):
    """The update's log-probabilities differ from the rollout's on untouched weights."""
