"""The wire format: what goes out comes in, and what is something else is refused."""

from __future__ import annotations

import io
import itertools
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ddrl.errors import RewardError
from ddrl.rewards.http.endpoints import Endpoints
from ddrl.rewards.wire.format import FORMAT, WireError
from ddrl.rewards.wire.media import Array, decode, encode
from ddrl.rewards.wire.message import (
    Reply,
    Request,
    decode_reply,
    decode_request,
    encode_error,
    encode_reply,
    encode_request,
)

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((2, 3, 4, 6), dtype=np.float32)
LEVELS = RANDOM.integers(0, 256, (2, 3, 4, 6), dtype=np.uint8)
CLIPS = RANDOM.integers(0, 256, (2, 5, 3, 4, 6), dtype=np.uint8)


def request(media: Array = IMAGES) -> Request:
    return Request(media, ('say "ä"', ""), (3, -7), ({"row": [1, None]}, {}))


def body_of(header: dict[str, Any], payload: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + payload


def header_and_payload(body: bytes) -> tuple[dict[str, Any], bytes]:
    """By hand, as another program would read it."""
    end = 8 + int.from_bytes(body[:8], "little")
    header: dict[str, Any] = json.loads(body[8:end])
    return header, body[end:]


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_arrays_arrive_as_they_were(dtype: str) -> None:
    media = LEVELS if dtype == "uint8" else IMAGES.astype(dtype)
    sent = request(media)
    found = decode_request(encode_request(sent, encoding="safetensors"))
    wanted = media.astype(np.float32) / np.float32(255) if dtype == "uint8" else media
    np.testing.assert_array_equal(found.media, wanted.astype(np.float32))
    assert found.media.dtype == np.float32
    for name in ("prompts", "prompt_ids", "metadata", "request", "samples", "group", "reward"):
        assert getattr(found, name) == getattr(sent, name)


@pytest.mark.parametrize("media", [LEVELS, CLIPS], ids=["images", "clips"])
def test_png_keeps_the_levels(media: Array) -> None:
    found = decode_request(encode_request(request(media), encoding="png"))
    np.testing.assert_array_equal(found.media, media / np.float32(255))


@pytest.mark.parametrize("size", [(16, 24), (7, 9)])
def test_mp4_keeps_smooth_clips_nearly(size: tuple[int, int]) -> None:
    height, width = size
    ramp = np.linspace(60, 180, height * width).reshape(height, width)
    clip = np.stack([ramp + 5 * t for t in range(6)])[:, None].repeat(3, 1).astype(np.uint8)
    found = decode_request(encode_request(request(np.stack([clip, clip])), encoding="mp4"))
    assert found.media.shape == (2, 6, 3, *size)
    off = np.abs(found.media - clip / np.float32(255))
    assert off.mean() < 0.02
    with pytest.raises(RewardError, match="MP4 is for clips"):
        encode_request(request(LEVELS), encoding="mp4")


@given(st.lists(st.floats(width=32), min_size=2, max_size=2))
def test_values_arrive_bitwise(values: list[float]) -> None:
    sent = request()
    reply = encode_reply(sent, Reply(tuple(values), {}))
    found = decode_reply(reply, request=sent.request, samples=sent.samples)
    for i, value in enumerate(values):
        if np.isfinite(value):
            assert found.values[i] == value
        else:  # never a number
            assert found.values[i] is None
            assert found.causes[i] == f"the reward returned {value}"


def test_errors_arrive_with_their_hint() -> None:
    with pytest.raises(WireError, match="no quote") as caught:
        decode_reply(encode_error("no quote.", hint="add one"), request="a", samples=["b"])
    assert caught.value.hint == "add one"
    assert caught.value.answered


def changed(**changes: Any) -> bytes:
    header, payload = header_and_payload(encode_request(request(), encoding="safetensors"))
    return body_of({**header, **changes}, payload)


GOOD = encode_request(request(), encoding="safetensors")


@pytest.mark.parametrize(
    ("body", "phrase"),
    [
        (b"", "is no request of ddrl-reward/1, or cut off"),
        (pickle.dumps({"media": [1, 2]}), "is no request of ddrl-reward/1"),
        (b"\xff" * 100, "is no request of ddrl-reward/1"),
        (GOOD[:60], "is no request of ddrl-reward/1, or cut off"),
        (GOOD[:-1], "the parts have 655 bytes, not 656"),
        (GOOD + b"x", "the parts have 657 bytes, not 656"),
        (body_of({"format": "ddrl-reward/2"}), "it speaks 'ddrl-reward/2', not"),
        (body_of({"format": FORMAT}), "request: field required"),
        (changed(encoding="pickle"), "encoding: input should be 'safetensors', 'png' or 'mp4'"),
        (changed(prompts=["a"]), "the header has 1 prompts for 2 samples"),
        (changed(prompt_ids=[1, 2**70]), "prompt_ids.1"),
        (changed(samples=["a", "a"]), "two samples have the same id"),
        (changed(group=[1]), "the header has 1 groups for 2 samples"),
        (changed(shape=[2, 3, 6, 4]), "not media of float32 .2, 3, 6, 4."),
        (changed(shape=[2, 1, 12, 6]), "is neither"),
        (changed(dtype="uint8"), "not media of uint8"),
        (changed(shape=[2, 3, 2**20, 2**20]), "above the limit of 268435456"),
        (changed(parts=[-8, 664]), "parts"),
    ],
    ids=itertools.count(),  # bodies hold an id drawn anew: workers have to agree on names
)
def test_what_is_no_request_is_refused(body: bytes, phrase: str) -> None:
    with pytest.raises(WireError, match=phrase):
        decode_request(body)


def _picture(kind: str, size: tuple[int, int] = (6, 4)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("encoding", "parts", "phrase"),
    [
        ("png", [_picture("PNG"), _picture("JPEG")], "picture 1 is no PNG file, or cut off"),
        ("png", [_picture("PNG")[:-30], _picture("PNG")], "picture 0 is no PNG file, or cut off"),
        ("png", [_picture("PNG", (9, 9))] * 2, "picture 0 is 9 x 9, not 6 x 4"),
        ("png", [_picture("PNG")], "there are 1 parts, not 2"),
        ("safetensors", [pickle.dumps(IMAGES)], "the payload is no safetensors file"),
    ],
)
def test_what_is_no_media_is_refused(encoding: Any, parts: list[bytes], phrase: str) -> None:
    with pytest.raises(RewardError, match=phrase):
        decode(parts, encoding=encoding, shape=(2, 3, 4, 6), dtype="float32")


@pytest.mark.parametrize(
    ("shape", "phrase"),
    [
        ((2, 4, 3, 4, 6), "clip 0 has more than 4 frames, not 4"),
        ((2, 6, 3, 4, 6), "clip 0 has 5 frames, not 6"),
        ((2, 5, 3, 6, 4), "clip 0 is 6 x 4, not 4 x 6"),
    ],
)
def test_clips_of_other_sizes_are_refused(shape: tuple[int, ...], phrase: str) -> None:
    parts = encode(CLIPS, encoding="mp4", fps=8)
    with pytest.raises(RewardError, match=phrase):
        decode(parts, encoding="mp4", shape=shape, dtype="uint8")
    with pytest.raises(RewardError, match="clip 0 is no MP4 file, or cut off"):
        decode([b"no mp4"] * 2, encoding="mp4", shape=(2, 5, 3, 4, 6), dtype="uint8")


def test_an_address_that_failed_rests_longer_each_time() -> None:
    now = [0.0]
    both = Endpoints(["a", "b"], rest=5, longest=15, clock=lambda: now[0])
    assert both.order() == ["a", "b"]
    both.failed("a")
    both.failed("a")  # at the same time: one failure
    assert both.order() == ["b", "a"]
    now[0] = 5.0
    assert both.order() == ["a", "b"]
    both.failed("a")
    now[0] = 14.9
    assert both.order() == ["b", "a"]
    both.failed("b")
    assert both.order() == ["a", "b"]  # all rest: as preferred
    both.worked("a")
    assert both.order() == ["a", "b"]
