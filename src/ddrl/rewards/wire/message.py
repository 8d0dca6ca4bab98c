"""The wire format of rewards in another process than the trainer, version 1 (docs/serving.md).

    request = length of the header (8 bytes, little endian) + header (JSON) + parts, end to end
    reply   = JSON

Sample ids go out with the samples and come back with the values, so that a reply that is short,
swapped, or another request's is seen. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Annotated, Any, Literal

from pydantic import Field

from ddrl.errors import RewardError, printable
from ddrl.rewards.wire.format import FORMAT, Model, WireError, check_format, validated
from ddrl.rewards.wire.media import DTYPES, Array, Encoding, count, decode, encode

CONTENT_TYPE = "application/x-ddrl-reward"
"""The content type of a request."""

MAX_HEADER = 2**24
"""Bytes of a request's header."""

MAX_SAMPLES = 4096
"""Samples of a request."""

MAX_PARTS = 2**16
"""Parts of a request: each picture of a clip is one of PNG."""

MAX_CAUSE = 150
"""Characters of a sample's cause: a reply may have 1024 bytes for each sample."""

MAX_ERROR = 1000
"""Characters of an error, and of a hint."""

_LENGTH = 8
_PER_BYTE = 8  # numbers of 4 bytes that a byte of JSON may take: an empty list has 64 bytes of 3


@dataclass(frozen=True)
class Request:
    """Samples to be scored.

    Attributes:
        media: pixels in [0, 1], float32, or uint8 levels; (B, 3, H, W) or (B, T, 3, H, W).
        prompts: B texts.
        prompt_ids: their integer identity, shape (B,); what has one prompt has one id.
        metadata: what the data source knows about each, in types of JSON.
        group: the group of each, for a reward of whole groups; else empty.
        reward: which reward is asked for; empty = whichever is there.
        request: id of the request.
        samples: B ids of samples; left out: made from the request's.
    """

    media: Array
    prompts: tuple[str, ...]
    prompt_ids: tuple[int, ...]
    metadata: tuple[Mapping[str, Any], ...]
    group: tuple[int, ...] = ()
    reward: str = ""
    request: str = field(default_factory=lambda: uuid.uuid4().hex)
    samples: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.samples:
            ids = tuple(f"{self.request}-{i}" for i in range(len(self.prompts)))
            object.__setattr__(self, "samples", ids)


_Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_Size = Annotated[int, Field(ge=0, lt=2**48)]
_Shape = Annotated[tuple[_Size, ...], Field(max_length=5)]


class _Extent(Model):
    shape: _Shape = ()


class _Header(Model):
    request: str = Field(min_length=1, max_length=200)
    reward: str = ""
    encoding: Encoding
    shape: _Shape
    dtype: Literal["float32", "float16", "uint8"] = "uint8"
    samples: tuple[str, ...]
    prompts: tuple[str, ...]
    prompt_ids: tuple[_Integer, ...]
    metadata: tuple[dict[str, Any], ...]
    group: tuple[_Integer, ...] = ()
    parts: Annotated[tuple[_Size, ...], Field(max_length=MAX_PARTS)]


@dataclass(frozen=True)
class Opened:
    """A request whose header has been read, and whose media have not been decoded.

    Attributes:
        header: its header.
        parts: the parts of its body.
        cost: about how many numbers of 4 bytes it takes in memory once it is decoded.
    """

    header: _Header
    parts: Sequence[memoryview]
    cost: int

    def decode(self) -> Request:
        """Decode the media and return the request.

        Raises:
            WireError: they are not what the header says.
        """
        header = self.header
        parts = [bytes(part) for part in self.parts]
        return Request(
            decode(parts, encoding=header.encoding, shape=header.shape, dtype=header.dtype),
            header.prompts,
            header.prompt_ids,
            header.metadata,
            header.group,
            header.reward,
            header.request,
            header.samples,
        )


def encode_request(request: Request, *, encoding: Encoding, fps: float = 16.0) -> bytes:
    """Write a request.

    Args:
        request: its media are uint8 for ``png`` and ``mp4``.
        encoding: how the media are written.
        fps: frames per second of clips (``mp4`` only).

    Raises:
        RewardError: the media can't be written like that, or metadata is not of JSON's types.
    """
    dtype = str(request.media.dtype)
    assert dtype in DTYPES
    parts = encode(request.media, encoding=encoding, fps=fps)
    header = {
        "format": FORMAT,
        "request": request.request,
        "reward": request.reward,
        "media": "images" if request.media.ndim == 4 else "clips",
        "encoding": encoding,
        "shape": list(request.media.shape),
        "dtype": dtype,
        "samples": request.samples,
        "prompts": request.prompts,
        "prompt_ids": request.prompt_ids,
        "metadata": [dict(one) for one in request.metadata],
        "group": request.group,
        "parts": [len(part) for part in parts],
    }
    try:
        text = json.dumps(header, ensure_ascii=False).encode()
    except (TypeError, ValueError, UnicodeEncodeError, RecursionError) as error:
        raise RewardError(
            f"A prompt or its metadata can't be sent to a remote reward: {error}.",
            hint="metadata of types that JSON has",
        ) from error
    return b"".join([len(text).to_bytes(_LENGTH, "little"), text, *parts])


def decode_request(body: bytes) -> Request:
    """Read a request.

    Raises:
        WireError: it is something else, of another version, or contradicts itself.
    """
    return open_request(body).decode()


def open_request(body: bytes) -> Opened:
    """Read the header of a request, and find the parts.

    Raises:
        WireError: it is something else, of another version, too large, or contradicts itself.
    """
    length = int.from_bytes(body[:_LENGTH], "little")
    if len(body) < _LENGTH or not 2 <= length <= min(MAX_HEADER, len(body) - _LENGTH):
        raise WireError(f"the body is no request of {FORMAT}, or cut off")
    text, payload = body[_LENGTH : _LENGTH + length], memoryview(body)[_LENGTH + length :]
    check_format(text)
    num_samples = next(iter(validated(_Extent, text).shape), 0)
    if num_samples > MAX_SAMPLES:  # before anything is made of them
        raise WireError(
            f"the request has {num_samples} samples, above the limit of {MAX_SAMPLES}", status=413
        )
    header = validated(_Header, text)
    for name in ("samples", "prompts", "prompt_ids", "metadata"):
        if (found := len(getattr(header, name))) != num_samples:
            raise WireError(f"the header has {found} {name} for {num_samples} samples")
    if len(header.group) not in (0, num_samples):
        raise WireError(f"the header has {len(header.group)} groups for {num_samples} samples")
    if len(set(header.samples)) != num_samples:
        raise WireError("two samples have the same id")
    if sum(header.parts) != len(payload):
        raise WireError(f"the parts have {len(payload)} bytes, not {sum(header.parts)}")
    ends = list(accumulate(header.parts))
    parts = [payload[end - size : end] for end, size in zip(ends, header.parts, strict=True)]
    return Opened(header, parts, count(header.shape) + _PER_BYTE * len(text))


@dataclass(frozen=True)
class Reply:
    """What a reward gave for the samples of a request.

    Attributes:
        values: a number each; None where there is none; it may be no finite number.
        causes: why a sample has none, by its place, as a clause without a full stop.
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
    """Write the values of a request's samples; what is no finite number becomes null."""
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
