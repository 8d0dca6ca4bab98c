"""Replies of the wire format: a value or a cause for every sample, or why there is none at all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from ddrl.errors import printable
from ddrl.rewards.wire.format import FORMAT, Model, WireError, check_format, validated
from ddrl.rewards.wire.message import Request

MAX_CAUSE = 150
"""Characters of a sample's cause: a reply may have 1024 bytes for each sample."""

MAX_ERROR = 1000
"""Characters of an error, and of a hint."""


@dataclass(frozen=True)
class Reply:
    """What became of them.

    Attributes:
        values: a number each; None where there is none; it may be no finite number.
        causes: by position, why a sample has none, as a clause without a full stop.
    """

    values: tuple[float | None, ...]
    causes: Mapping[int, str]


class _Reply(Model):
    request: str = ""
    samples: tuple[str, ...] = ()
    values: tuple[float | None, ...] = ()
    causes: dict[str, str] = Field(default_factory=dict)
    error: str = ""
    hint: str = ""


def encode_reply(request: Request, reply: Reply) -> bytes:
    """Write what became of a request's samples; what is no finite number becomes null."""
    values = [None if v is None or not math.isfinite(v) else v for v in reply.values]
    causes = {
        request.samples[i]: printable(
            reply.causes.get(i, f"the reward returned {reply.values[i]}"), limit=MAX_CAUSE
        )
        for i, value in enumerate(values)
        if value is None
    }
    return json.dumps(
        {
            "format": FORMAT,
            "request": request.request,
            "samples": request.samples,
            "values": values,
            "causes": causes,
        },
        ensure_ascii=False,
    ).encode()


def encode_error(message: str, *, hint: str = "") -> bytes:
    """Write why a request has no values at all."""
    said = {"error": message.rstrip("."), "hint": hint}
    short = {key: printable(text, limit=MAX_ERROR) for key, text in said.items()}
    return json.dumps({"format": FORMAT, **short}, ensure_ascii=False).encode()


def decode_reply(body: bytes, *, request: str, samples: Sequence[str]) -> Reply:
    """Read a reply.

    Args:
        body: as it came.
        request: the id that was sent.
        samples: the ids that were sent, in their order.

    Raises:
        WireError: it is cut off, of another version, or another request's; it has other samples
            or another order, or something else than numbers; or it says that there are no values.
    """
    check_format(body)
    reply = validated(_Reply, body)
    if reply.error:
        error, hint = (printable(said, limit=MAX_ERROR) for said in (reply.error, reply.hint))
        raise WireError(error, answered=True, hint=hint)
    if reply.request != request:
        raise WireError(f"the reply is to request {reply.request[:40]!r}, not {request!r}")
    found = len(reply.values)
    if found != len(samples) or len(reply.samples) != len(samples):
        raise WireError(f"the reply has {found} values for {len(samples)} samples")
    if reply.samples != tuple(samples):
        same = sorted(reply.samples) == sorted(samples)
        other = "the samples in another order" if same else "other samples"
        raise WireError(f"the reply has {other}")
    causes = {
        i: printable(
            reply.causes.get(sample, "the reply has null for it and no cause"), limit=MAX_ERROR
        )
        for i, (sample, value) in enumerate(zip(samples, reply.values, strict=True))
        if value is None
    }
    return Reply(reply.values, causes)
