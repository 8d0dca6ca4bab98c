"""One call of a reward, with its retries; what it gives is a column, or an error ends the run."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.errors import DDRLError, RewardError
from ddrl.records import Prompts
from ddrl.rewards.base import GroupReward, Reward, SampleError
from ddrl.rewards.level import is_group_level
from ddrl.rewards.scoring.cache import RewardCache
from ddrl.rewards.scoring.column import Column

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0  # seconds between two attempts


@dataclass(frozen=True)
class WeightedReward:
    """A reward and how it is used.

    Attributes:
        name: its name in logs and metrics.
        reward: the reward itself.
        weight: its factor in the sum.
        timeout: seconds from when a batch's last samples are handed over until all calls must be
            done, retries included; 0 = no limit.
        retries: how often a call that raised is made again.
        samples_per_call: how many samples a call gets, as in
            :func:`~ddrl.rewards.level.plan_calls`.
        cache: results of earlier calls; not for rewards of whole groups.
        table: the table of the recipe that it stands in, for hints.
    """

    name: str
    reward: Reward | GroupReward
    weight: float = 1.0
    timeout: float = 0.0
    retries: int = 0
    samples_per_call: int = 0
    cache: RewardCache | None = None
    table: str = "[[reward]]"


@dataclass(frozen=True)
class Piece:
    """The samples of a call.

    Attributes:
        media: shape (P, ...).
        prompts: length P.
        group: shape (P,).
        rows: places of the samples in the batch.
        is_whole: whether they are the whole batch.
    """

    media: Tensor
    prompts: Prompts
    group: Tensor
    rows: Sequence[int]
    is_whole: bool = True

    def select(self, places: Sequence[int]) -> Piece:
        """Return the samples at these places of the piece."""
        index = list(places)
        rows = [self.rows[place] for place in index]
        prompts = self.prompts.select(index)
        return Piece(self.media[index], prompts, self.group[index], rows, is_whole=False)


def attempt(entry: WeightedReward, piece: Piece, *, pause: float, left: threading.Event) -> Column:
    """Score a piece: what the cache knows from there, the rest in one call, with retries.

    Args:
        entry: the reward.
        piece: the samples.
        pause: seconds before the first retry; each further one takes twice as long, up to 60.
        left: set once nobody waits for the answer.

    Raises:
        RewardError: it returned another shape.
    """
    if entry.cache is None:
        return _attempt(entry, piece, pause, left)
    keys = entry.cache.keys(piece.media, piece.prompts)
    known = entry.cache.find(keys)
    missing = [place for place, key in enumerate(keys) if key not in known]
    places = [place for place, key in enumerate(keys) if key in known]
    hits = torch.tensor([known[keys[place]] for place in places])
    found = Column.known(hits, [piece.rows[place] for place in places])
    if not missing:
        return found
    fresh = _attempt(entry, piece.select(missing) if places else piece, pause, left)
    values = zip(missing, fresh.value.tolist(), strict=True)
    entry.cache.store({keys[place]: value for place, value in values if math.isfinite(value)})
    return Column.merge([found, fresh]) if places else fresh


def score_once(reward: Reward | GroupReward, piece: Piece) -> object:
    """Call a reward and return what it returns, which may be anything."""
    with torch.no_grad():
        if is_group_level(reward):
            return reward.score(piece.media, piece.prompts, piece.group)
        return reward.score(piece.media, piece.prompts)  # type: ignore[call-arg]


def _attempt(entry: WeightedReward, piece: Piece, pause: float, left: threading.Event) -> Column:
    size = len(piece.rows)
    for number in range(entry.retries + 1):
        returned: object
        errors: SampleError | None = None
        try:
            returned = score_once(entry.reward, piece)
        except SampleError as error:  # an answer, which another attempt would not change
            returned, errors = error.value, error
        except Exception as error:
            # A reward is somebody's code: whatever it raises is a failed reward.
            failure = Column.failure(piece.rows, *_cause(entry, piece, error), number)
            if number == entry.retries or left.is_set():
                return failure
            seconds = min(pause * 2**number, LONGEST_PAUSE)
            logger.warning("%s; trying again in %g s", failure.cause, seconds)
            if left.wait(seconds):
                return failure
            continue
        break
    if not isinstance(returned, Tensor) or returned.shape != (size,):
        found = tuple(returned.shape) if isinstance(returned, Tensor) else type(returned)
        raise RewardError(
            f"Reward {entry.name!r} returned {found} for {size} samples, not shape ({size},).",
            hint="a reward returns one float per sample",
        )
    value = returned.detach().float().cpu()
    return Column.of(entry.name, value, piece.prompts, rows=piece.rows, errors=errors)


def _cause(entry: WeightedReward, piece: Piece, error: Exception) -> tuple[str, str]:
    """Return why a reward failed, and what the user can do about it."""
    name, where = entry.name, ""
    if not piece.is_whole:
        where = f" from sample {piece.rows[0]} ({piece.prompts.text[0]!r}) on"
    if isinstance(error, DDRLError):
        return f"reward {name!r} failed{where}: {error.message.rstrip('.')}", error.hint
    logger.debug("reward %s failed", name, exc_info=error)
    cause = f"{type(error).__name__}: {error}"
    return f"reward {name!r} failed on {len(piece.rows)} samples{where}: {cause}", ""
