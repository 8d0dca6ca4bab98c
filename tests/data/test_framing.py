from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddrl.data.media.framing import Bucket, Framing, choose_bucket, fit, num_available, pick_frames
from ddrl.data.problems import BrokenFileError
from ddrl.errors import DataError

SQUARE, WIDE, TALL = Bucket(64, 64), Bucket(48, 96), Bucket(96, 48)


def times_at(fps: int, count: int) -> list[Fraction]:
    return [Fraction(k, fps) for k in range(count)]


@pytest.mark.parametrize(
    ("height", "width", "bucket"),
    [
        (100, 100, SQUARE),
        (100, 210, WIDE),
        (210, 100, TALL),
        (100, 140, SQUARE),  # nearer to 1 than to 2 in the logarithm
        (100, 142, WIDE),
        (1, 1, SQUARE),
    ],
)
def test_the_nearest_aspect_ratio_is_chosen(height: int, width: int, bucket: Bucket) -> None:
    framing = Framing((WIDE, SQUARE, TALL))
    assert choose_bucket("a.png", height, width, 0, framing) == bucket


def test_among_equal_ratios_the_largest_without_enlarging() -> None:
    framing = Framing((Bucket(32, 32), Bucket(64, 64), Bucket(128, 128)))
    assert choose_bucket("a", 100, 100, 0, framing) == Bucket(64, 64)
    assert choose_bucket("a", 500, 500, 0, framing) == Bucket(128, 128)
    assert choose_bucket("a", 8, 8, 0, framing) == Bucket(32, 32)


def test_clips_go_to_the_longest_bucket_they_fill() -> None:
    framing = Framing((SQUARE, Bucket(64, 64, 9), Bucket(64, 64, 17)))
    assert choose_bucket("a.mp4", 64, 64, 20, framing).frames == 17
    assert choose_bucket("a.mp4", 64, 64, 16, framing).frames == 9
    with pytest.raises(BrokenFileError, match=r"a\.mp4: has 8 frames, and 9 are needed") as caught:
        choose_bucket("a.mp4", 64, 64, 8, framing)
    assert caught.value.problem.kind == "too_short"


def test_a_kind_without_a_bucket_is_named() -> None:
    with pytest.raises(BrokenFileError, match="is a video, and no bucket is for videos"):
        choose_bucket("a.mp4", 64, 64, 8, Framing((SQUARE,)))
    with pytest.raises(BrokenFileError, match="is an image, and no bucket is for images"):
        choose_bucket("a.png", 64, 64, 0, Framing((Bucket(64, 64, 9),)))


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(DataError, match="no buckets"):
        Framing(())
    with pytest.raises(DataError, match="frames per second"):
        Framing((SQUARE,), fps=0.0)
    with pytest.raises(DataError, match="1 or more"):
        Bucket(0, 8)


def test_fit_keeps_what_already_fits() -> None:
    pixels = torch.arange(3 * 4 * 6, dtype=torch.uint8).reshape(3, 4, 6)
    assert torch.equal(fit(pixels, Bucket(4, 6)), pixels)


def test_fit_crops_the_centre() -> None:
    pixels = torch.zeros(3, 8, 24, dtype=torch.uint8)
    pixels[:, :, 8:16] = 200
    assert torch.equal(fit(pixels, Bucket(8, 8)), torch.full((3, 8, 8), 200, dtype=torch.uint8))


@pytest.mark.parametrize(("height", "width"), [(24, 8), (30, 10), (8, 8), (8, 30)])
def test_fit_crops_as_much_on_either_side(height: int, width: int) -> None:
    down, across = torch.arange(height)[:, None] * 6, torch.arange(width)[None] * 6
    pixels = torch.stack([down + 0 * across, 0 * down + across, down + across]).byte()
    fitted = fit(pixels, Bucket(8, 8))
    turned = fit(pixels.flip(1, 2), Bucket(8, 8))
    assert (fitted.int() - turned.flip(1, 2).int()).abs().max() <= 1
    middle = fitted.float().mean((1, 2))
    assert (middle - pixels.float().mean((1, 2))).abs().max() < 1
    assert fitted[0].float().std(dim=1).max() < 0.5  # rows stay rows, channels stay channels
    assert fitted[1].float().std(dim=0).max() < 0.5


def test_fit_is_antialiased() -> None:
    stripes = torch.zeros(3, 64, 64, dtype=torch.uint8)
    stripes[:, :, ::2] = 255
    small = fit(stripes, Bucket(8, 8)).float()
    assert (small - 127.5).abs().max() < 8  # picking pixels would give 0 or 255


def test_fit_of_a_clip_is_that_of_its_frames() -> None:
    clip = torch.randint(256, (3, 3, 9, 17), generator=torch.Generator().manual_seed(0)).byte()
    fitted = fit(clip, Bucket(6, 6, 3))
    assert fitted.shape == (3, 3, 6, 6)
    assert torch.equal(fitted[1], fit(clip[1], Bucket(6, 6)))


def test_one_pixel_fills_any_bucket() -> None:
    pixels = torch.tensor([1, 2, 3], dtype=torch.uint8).reshape(3, 1, 1)
    assert torch.equal(fit(pixels, Bucket(4, 8)), pixels.expand(3, 4, 8))


@pytest.mark.parametrize(
    ("own", "count", "fps", "available"),
    [(30, 30, 16, 16), (30, 30, 30, 30), (30, 30, 15, 15), (12, 1, 16, 1), (24, 49, 16, 33)],
)
def test_how_many_frames_there_are(own: int, count: int, fps: int, available: int) -> None:
    assert num_available(times_at(own, count), fps) == available
    assert num_available(times_at(own, count), None) == count


def test_frames_are_picked_evenly_in_time() -> None:
    times = times_at(24, 48)
    assert pick_frames(times, num_frames=4) == [0, 1, 2, 3]
    assert pick_frames(times, num_frames=4, start="centre") == [22, 23, 24, 25]
    assert pick_frames(times, fps=12, num_frames=4) == [0, 2, 4, 6]
    assert pick_frames(times, fps=16, num_frames=5) == [0, 1, 3, 4, 6]  # 1.5 is a tie
    assert pick_frames(times, fps=8, num_frames=3, start="centre") == [20, 23, 26]


def test_an_uneven_clip_is_sampled_by_its_times() -> None:
    times = [Fraction(t, 10) for t in (0, 1, 2, 3, 10, 11, 20)]
    assert pick_frames(times, fps=1, num_frames=3) == [0, 4, 6]


def test_times_rounded_to_milliseconds_pick_the_same_frames() -> None:
    rounded = [Fraction(round(1000 * k / 30), 1000) for k in range(60)]
    assert pick_frames(rounded, fps=30, num_frames=60) == list(range(60))


@pytest.mark.parametrize("own", [24, 25, 30, 60])
@pytest.mark.parametrize("unit", [1000, 600, 90_000])
@pytest.mark.parametrize("rounded", [math.floor, round, math.ceil])
def test_times_in_another_unit_lose_no_frame(
    own: int, unit: int, rounded: Callable[[Fraction], int]
) -> None:
    for count in (2, 3, 16, 49, 81, 121):
        times = [Fraction(rounded(Fraction(unit * k, own)), unit) for k in range(count)]
        assert num_available(times, own) == count
        assert pick_frames(times, fps=own, num_frames=count) == list(range(count))
        assert num_available(times, own / 2) == (count + 1) // 2


@given(
    own=st.integers(1, 60),
    count=st.integers(2, 50),
    fps=st.floats(0.5, 60),
    start=st.sampled_from(["start", "centre"]),
)
def test_as_many_as_available_can_be_picked(own: int, count: int, fps: float, start: str) -> None:
    times = times_at(own, count)
    picked = pick_frames(times, fps=fps, start="start" if start == "start" else "centre")
    assert len(picked) == num_available(times, fps)
    assert picked == sorted(picked)
    assert picked[0] >= 0
    assert picked[-1] < count


def test_the_key_knows_what_matters() -> None:
    image, clip = SQUARE, Bucket(64, 64, 9)
    one, other = Framing((image, clip), fps=16), Framing((image, clip, WIDE), fps=8)
    assert one.key(image) == other.key(image)  # neither other buckets nor a rate matter to it
    assert one.key(clip) != other.key(clip)
    assert one.key(clip) != Framing((clip,), fps=16, start="centre").key(clip)
