"""Samples of several requests are scored together, and each request gets its own back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ddrl.errors import DDRLError
from ddrl.records import Prompts
from ddrl.rewards.base import GroupReward, Reward, SampleError
from ddrl.rewards.scoring.attempt import Piece, score_once
from ddrl.rewards.wire.media import Array
from ddrl.rewards.wire.message import Request


@dataclass(frozen=True)
class Sample:
    """One sample of a request.

    Attributes:
        request: the id of its request.
        media: pixels in [0, 1], (3, H, W) or (T, 3, H, W).
        prompt: its text.
        prompt_id: the integer identity of the prompt.
        metadata: what the data source knows about it.
        group: its group, for a reward of whole groups.
    """

    request: str
    media: Array
    prompt: str
    prompt_id: int
    metadata: dict[str, object]
    group: int = 0


@dataclass(frozen=True)
class Outcome:
    """The result of a sample.

    Attributes:
        value: the reward; None = there is none.
        cause: why there is none, as a clause without a full stop.
        hint: what the user can do about it.
        raised: whether the whole call failed, and not this sample alone.
    """

    value: float | None
    cause: str = ""
    hint: str = ""
    raised: bool = False


def samples_of(request: Request) -> list[Sample]:
    """Return the samples of a request, in its order."""
    return [
        Sample(request.request, media, text, number, dict(metadata), group)
        for media, text, number, metadata, group in zip(
            request.media,
            request.prompts,
            request.prompt_ids,
            request.metadata,
            request.group or [0] * len(request.prompts),
            strict=True,
        )
    ]


def score_samples(reward: Reward | GroupReward, samples: Sequence[Sample]) -> list[Outcome]:
    """Score samples together as far as their media has one shape.

    Where a call fails that holds samples of several requests, each request is scored alone: it does
    not fail for what another one sent.

    Returns:
        One for each sample, in their order.
    """
    outcomes: dict[int, Outcome] = {}
    for shape in dict.fromkeys(sample.media.shape for sample in samples):
        rows = [i for i, sample in enumerate(samples) if sample.media.shape == shape]
        found = _score(reward, [samples[i] for i in rows])
        requests = dict.fromkeys(samples[i].request for i in rows)
        if len(requests) > 1 and found[0].raised:
            for request in requests:
                own = [i for i in rows if samples[i].request == request]
                found_alone = _score(reward, [samples[i] for i in own])
                outcomes |= dict(zip(own, found_alone, strict=True))
            continue
        outcomes |= dict(zip(rows, found, strict=True))
    return [outcomes[i] for i in range(len(samples))]


def _score(reward: Reward | GroupReward, samples: Sequence[Sample]) -> list[Outcome]:
    """Call the reward once, whatever it raises."""
    causes: dict[int, str] = {}
    hint = ""
    try:
        value = score_once(reward, _piece(samples))
    except SampleError as error:
        value, causes, hint = error.value, error.causes, error.hint
    except Exception as error:  # a reward is somebody's code
        if isinstance(error, DDRLError):
            failure = Outcome(None, error.message.rstrip("."), error.hint, raised=True)
        else:
            text = " ".join(str(error).split())
            cause = f"{type(error).__name__}: {text}" if text else type(error).__name__
            failure = Outcome(None, cause, raised=True)
        return [failure] * len(samples)
    if not isinstance(value, torch.Tensor) or value.shape != (len(samples),):
        found = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        cause = f"it returned {found} for {len(samples)} samples, not one float each"
        return [Outcome(None, cause, raised=True)] * len(samples)
    numbers = value.detach().float().cpu().tolist()
    return [
        Outcome(None, causes[i], hint) if i in causes else Outcome(number)
        for i, number in enumerate(numbers)
    ]


def _piece(samples: Sequence[Sample]) -> Piece:
    """Put samples of one shape together."""
    prompts = Prompts(
        torch.tensor([sample.prompt_id for sample in samples], dtype=torch.int64),
        tuple(sample.prompt for sample in samples),
        tuple(sample.metadata for sample in samples),
    )
    media = torch.stack([torch.tensor(sample.media) for sample in samples])
    group = torch.tensor([sample.group for sample in samples])
    return Piece(media, prompts, group, range(len(samples)))
