"""The wire format's limits: what a small body claims, or grows to, is refused before it is made."""

from __future__ import annotations

import asyncio
import io
import json
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image
from tests.rewards.test_wire import IMAGES, body_of, header_and_payload, request

from ddrl.rewards.serve.budget import Budget
from ddrl.rewards.wire.format import FORMAT, WireError
from ddrl.rewards.wire.media import decode
from ddrl.rewards.wire.message import (
    MAX_PARTS,
    MAX_SAMPLES,
    Reply,
    Request,
    decode_reply,
    decode_request,
    encode_error,
    encode_reply,
    encode_request,
    open_request,
)

HUGE = 10**4299  # the longest number that Python reads


def packet(codec: Literal["mjpeg", "png"], size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    picture = Image.new("RGB", size, (200, 10, 10))
    if codec == "png":
        picture.save(file, "PNG")
    else:
        picture.save(file, "JPEG", subsampling=2)
    return file.getvalue()


def clip(codec: Literal["mjpeg", "png"], sizes: list[tuple[int, int]]) -> bytes:
    """An MP4 that says the first size and has frames of these."""
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=8)
        stream.width, stream.height = sizes[0]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "rgb24"
        for i, size in enumerate(sizes):
            one = av.Packet(packet(codec, size))
            one.stream, one.time_base = stream, Fraction(1, 8)
            one.pts = one.dts = i
            one.duration, one.is_keyframe = 1, True
            container.mux(one)
    return file.getvalue()


@pytest.mark.parametrize("codec", ["mjpeg", "png"])
@pytest.mark.parametrize(
    ("sizes", "phrase"),
    [
        ([(16, 16), (17, 16), (16, 16)], "clip 0 is 17 x 16, not 16 x 16"),
        ([(16, 16), (16, 16), (64, 64)], "clip 0 is 64 x 64, not 16 x 16"),
        ([(16, 16), (2000, 2000), (16, 16)], "clip 0 is no MP4 file, or cut off"),
    ],
)
def test_frames_that_grow_are_refused(
    codec: Literal["mjpeg", "png"], sizes: list[tuple[int, int]], phrase: str
) -> None:
    shape = (1, 3, 3, 16, 16)
    good = decode([clip(codec, [(16, 16)] * 3)], encoding="mp4", shape=shape, dtype="uint8")
    assert good.shape == shape
    with pytest.raises(WireError, match=phrase):
        decode([clip(codec, sizes)], encoding="mp4", shape=shape, dtype="uint8")


def many(count: int) -> bytes:
    media = np.zeros((count, 3, 1, 1), np.uint8)
    ids = tuple(range(count))
    return encode_request(Request(media, ("",) * count, ids, ({},) * count), encoding="safetensors")


def test_samples_are_counted_before_anything_is_made_of_them() -> None:
    assert len(decode_request(many(MAX_SAMPLES)).samples) == MAX_SAMPLES
    with pytest.raises(WireError, match="has 4097 samples, above the limit of 4096") as caught:
        open_request(many(MAX_SAMPLES + 1))
    assert caught.value.status == 413


def changed(**changes: Any) -> bytes:
    header, payload = header_and_payload(encode_request(request(), encoding="safetensors"))
    text = json.dumps({**header, **changes}).replace('"HUGE"', str(HUGE)).encode()
    return len(text).to_bytes(8, "little") + text + payload


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"shape": ["HUGE", 3, 4, 6]}, "shape.0: "),
        ({"shape": [2, 3, 4, "HUGE"]}, "shape.3: "),
        ({"shape": [2, 3, 2**40, 2**40]}, "numbers, above the limit of 268435456"),
        ({"shape": [2] * 40}, "shape: "),
        ({"shape": [-2, 3, 4, 6]}, "shape.0: "),
        ({"shape": []}, "2 samples for 0 samples"),
        ({"parts": ["HUGE"]}, "parts.0: "),
        ({"parts": [0] * (MAX_PARTS + 1)}, "parts: "),
        ({"prompt_ids": ["HUGE", 1]}, "prompt_ids.0: "),
        ({"group": ["HUGE", 1]}, "group.0: "),
    ],
)
def test_numbers_without_end_are_refused(changes: dict[str, Any], phrase: str) -> None:
    with pytest.raises(WireError) as caught:
        decode_request(changed(**changes))
    assert phrase in caught.value.message
    assert len(caught.value.message) < 500


def test_depth_without_end_is_refused() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    header = b'{"format": "ddrl-reward/1", "metadata": ' + deep + b"}"
    with pytest.raises(WireError, match="not of ddrl-reward/1"):
        decode_request(len(header).to_bytes(8, "little") + header)
    with pytest.raises(WireError, match="not of ddrl-reward/1"):
        decode_reply(b'{"format": "ddrl-reward/1", "x": ' + deep + b"}", request="a", samples=[])


def test_a_value_of_too_many_digits_is_no_number() -> None:
    reply = {"format": FORMAT, "request": "r", "samples": ["a"], "values": ["HUGE"]}
    text = json.dumps(reply).replace('"HUGE"', str(HUGE)).encode()
    try:
        found = decode_reply(text, request="r", samples=["a"])
    except WireError as error:
        assert len(error.message) < 500  # noqa: PT017 - either will do
    else:
        assert not np.isfinite(np.float64(found.values[0] or 0.0))


def test_what_is_quoted_of_a_request_is_short() -> None:
    header, _ = header_and_payload(encode_request(request(), encoding="safetensors"))
    from safetensors.numpy import save

    payload = save({f"{'x' * 1000}{i}": IMAGES for i in range(20)})
    with pytest.raises(WireError, match="the payload holds") as caught:
        decode_request(body_of({**header, "parts": [len(payload)]}, payload))
    assert len(caught.value.message) < 500


def test_long_and_dangerous_words_arrive_short_and_plain() -> None:
    evil = "\x1b]0;owned\x07\u202e" + "ä" * 100_000
    with pytest.raises(WireError) as caught:
        decode_reply(encode_error(evil, hint=evil), request="a", samples=["b"])
    for text in (caught.value.message, caught.value.hint):
        assert "\\x1b" in text
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
        assert len(text) <= 1000
    sent = Request(IMAGES, ("", ""), (0, 1), ({}, {}))
    reply = encode_reply(sent, Reply((None, None), {0: evil, 1: evil}))
    assert len(reply) < 2 * 1024  # within what a client allows for each sample
    found = decode_reply(reply, request=sent.request, samples=sent.samples)
    assert found.causes[0].startswith("\\x1b]0;owned\\x07\\u202eä")
    raw = {"format": FORMAT, "error": evil, "hint": evil}  # of a server that is not ours
    with pytest.raises(WireError) as foreign:
        decode_reply(json.dumps(raw).encode(), request="a", samples=["b"])
    assert "\x1b" not in foreign.value.message + foreign.value.hint


def test_a_budget_is_never_overdrawn_and_serves_in_order() -> None:
    budget, most, order = Budget(100), 0, list[int]()
    taken = 0

    async def one(number: int, cost: int) -> None:
        nonlocal most, taken
        got = await budget.take(cost)
        order.append(number)
        taken += got
        most = max(most, taken)
        await asyncio.sleep(0.001)
        taken -= got
        budget.give(got)

    async def all_of_them() -> None:
        left = asyncio.create_task(budget.take(1000))  # more than there is: all of it
        assert await left == 100
        gone = asyncio.create_task(one(99, 10))
        await asyncio.sleep(0)
        gone.cancel()  # a client that left costs nothing
        costs = [60, 60, 1, 100, 30, 30, 30, 30, 2000, 5]
        tasks = [asyncio.create_task(one(i, cost)) for i, cost in enumerate(costs)]
        await asyncio.sleep(0)
        assert order == []
        budget.give(100)
        await asyncio.wait_for(asyncio.gather(*tasks), 10)

    asyncio.run(all_of_them())
    assert order == list(range(10))
    assert most == 100


def test_the_cost_of_a_request_counts_pixels_and_header() -> None:
    plain = open_request(encode_request(request(), encoding="safetensors")).cost
    assert plain > IMAGES.size
    wordy = Request(IMAGES, ("a" * 1000, ""), (0, 1), ({}, {}))
    assert open_request(encode_request(wordy, encoding="safetensors")).cost > plain + 5000
