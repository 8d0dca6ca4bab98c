"""The wire format of rewards apart from the trainer, version 1 (docs/rewards.md).

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
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ddrl.errors import RewardError
from ddrl.rewards.wire_media import DTYPES, Array, Encoding, MediaError, decode, encode

__all__ = [
    "CONTENT_TYPE",
    "FORMAT",
    "Reply",
    "Request",
    "WireError",
    "decode_reply",
    "decode_request",
    "encode_error",
    "encode_reply",
    "encode_request",
]

FORMAT = "ddrl-reward/1"
"""Name and version of the format, in every header and reply."""

CONTENT_TYPE = "application/x-ddrl-reward"
"""Of a request."""

MAX_HEADER = 2**24
_LENGTH = 8

ModelT = TypeVar("ModelT", bound=BaseModel)


class WireError(RewardError):
    """What came is not in this format.

    Args:
        message: why, as a clause without a full stop.
        status: the HTTP status of a reply that says so.
        answered: whether it is the reward's own answer that it failed.
        hint: what the user can do about it.
    """

    def __init__(
        self, message: str, *, status: int = 400, answered: bool = False, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.status, self.answered = status, answered


@dataclass(frozen=True)
class Request:
    """Samples to be scored.

    Attributes:
        media: pixels in [0, 1], float32, or uint8 levels; (B, 3, H, W) or (B, T, 3, H, W).
        prompts: B texts.
        prompt_ids: their integer identity, shape (B,); what has one prompt has one id.
        metadata: what the data source knows of each, in types of JSON.
        group: the group of each, for a reward of whole groups; else empty.
        reward: which reward is asked for; empty = whichever is there.
        request: the id of the request.
        samples: B ids; left out: made from the request's.
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


@dataclass(frozen=True)
class Reply:
    """What became of them.

    Attributes:
        values: a number each; None where there is none; it may be no finite number.
        causes: by position, why a sample has none, as a clause without a full stop.
    """

    values: tuple[float | None, ...]
    causes: Mapping[int, str]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


_Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class _Format(_Model):
    format: str


class _Header(_Model):
    request: str = Field(min_length=1, max_length=200)
    reward: str = ""
    encoding: Encoding
    shape: tuple[int, ...]
    dtype: Literal["float32", "float16", "uint8"] = "uint8"
    samples: tuple[str, ...]
    prompts: tuple[str, ...]
    prompt_ids: tuple[_Integer, ...]
    metadata: tuple[dict[str, Any], ...]
    group: tuple[_Integer, ...] = ()
    parts: tuple[int, ...]


class _Reply(_Model):
    request: str = ""
    samples: tuple[str, ...] = ()
    values: tuple[float | None, ...] = ()
    causes: dict[str, str] = {}
    error: str = ""
    hint: str = ""


def encode_request(request: Request, *, encoding: Encoding, fps: float = 16.0) -> bytes:
    """Write a request.

    Args:
        request: its media are uint8 for ``png`` and ``mp4``.
        encoding: of the media.
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
    except (TypeError, ValueError, UnicodeEncodeError) as error:
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
    length = int.from_bytes(body[:_LENGTH], "little")
    if len(body) < _LENGTH or not 2 <= length <= min(MAX_HEADER, len(body) - _LENGTH):
        raise WireError(f"the body is no request of {FORMAT}, or cut off")
    text, payload = body[_LENGTH : _LENGTH + length], memoryview(body)[_LENGTH + length :]
    _check_format(text)
    header = _validated(_Header, text)
    count = header.shape[0] if header.shape else 0
    for name in ("samples", "prompts", "prompt_ids", "metadata"):
        if len(getattr(header, name)) != count:
            found = len(getattr(header, name))
            raise WireError(f"the header has {found} {name} for {count} samples")
    if len(header.group) not in (0, count):
        raise WireError(f"the header has {len(header.group)} groups for {count} samples")
    if len(set(header.samples)) != count:
        raise WireError("two samples have the same id")
    if min(header.parts, default=0) < 0 or sum(header.parts) != len(payload):
        raise WireError(f"the parts have {len(payload)} bytes, not {sum(header.parts)}")
    parts, start = [], 0
    for size in header.parts:
        parts.append(bytes(payload[start : start + size]))
        start += size
    try:
        media = decode(parts, encoding=header.encoding, shape=header.shape, dtype=header.dtype)
    except MediaError as error:
        raise WireError(error.message.rstrip("."), hint=error.hint) from error
    return Request(
        media,
        header.prompts,
        header.prompt_ids,
        header.metadata,
        header.group,
        header.reward,
        header.request,
        header.samples,
    )


def encode_reply(request: Request, reply: Reply) -> bytes:
    """Write what became of a request's samples; what is no finite number becomes null."""
    values = [None if v is None or not math.isfinite(v) else v for v in reply.values]
    causes = {
        request.samples[i]: reply.causes.get(i, f"the reward returned {reply.values[i]}")
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
        }
    ).encode()


def encode_error(message: str, *, hint: str = "") -> bytes:
    """Write why a request has no values at all."""
    return json.dumps({"format": FORMAT, "error": message.rstrip("."), "hint": hint}).encode()


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
    _check_format(body)
    reply = _validated(_Reply, body)
    if reply.error:
        raise WireError(reply.error, answered=True, hint=reply.hint)
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
        i: reply.causes.get(sample, "the reply has null for it and no cause")
        for i, (sample, value) in enumerate(zip(samples, reply.values, strict=True))
        if value is None
    }
    return Reply(reply.values, causes)


def _check_format(text: bytes) -> None:
    found = _validated(_Format, text).format
    if found != FORMAT:
        raise WireError(
            f"it speaks {found[:40]!r}, not {FORMAT!r}", hint="is it of another release of ddrl?"
        )


def _validated(model: type[ModelT], text: bytes) -> ModelT:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = first["msg"][:1].lower() + first["msg"][1:]
        raise WireError(f"not of {FORMAT}: {f'{where}: ' if where else ''}{reason}") from None
