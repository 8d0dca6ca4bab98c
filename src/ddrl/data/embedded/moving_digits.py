"""The embedded clips: a scanned digit that moves, captioned as "a three moving left slowly".

Each clip shows one scan of :mod:`ddrl.data.embedded.digits` on black, moving straight at one of two
speeds. No scan is in two of the four splits, so a held-out clip shows a digit that no model has
seen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ddrl.data.embedded.digits import DIGIT_NAMES, digit_splits
from ddrl.data.embedded.sources import CaptionedMedia, Splits
from ddrl.errors import DataError
from ddrl.seeding import permutation

DIRECTIONS: dict[str, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
}
"""Direction word to a step in (x, y); y grows downwards, as rows do."""

SPEEDS = ("slowly", "quickly")
MOTIONS = tuple((direction, speed) for direction in DIRECTIONS for speed in SPEEDS)
DIGIT_SIZE = 8
CLIPS_PER_SCAN = {"train": 4, "heldout": 1, "reward": 2, "judge": 2}


def speeds(size: tuple[int, int], frames: int) -> dict[str, float]:
    """Speed word to pixels per frame, so that the digit stays in the picture.

    Args:
        size: (height, width) in pixels.
        frames: of a clip.
    """
    quickly = (min(size) - DIGIT_SIZE) / frames
    return {"slowly": quickly / 2, "quickly": quickly}


def moving_captions() -> tuple[str, ...]:
    """Return the 80 captions. Motions go round fastest and digits with them: any few vary.

    Caption i shows digit i mod 10; the same motion comes up every 8.
    """
    rounds = [(i % len(DIGIT_NAMES), (i + i // 40) % len(MOTIONS)) for i in range(80)]
    return tuple(_caption(digit, motion) for digit, motion in rounds)


def _caption(digit: int, motion: int) -> str:
    name, (direction, speed) = DIGIT_NAMES[digit], MOTIONS[motion]
    return f"{'an' if name == 'eight' else 'a'} {name} moving {direction} {speed}"


def moving_digit_splits(*, size: tuple[int, int] = (12, 12), frames: int = 8) -> Splits:
    """Make the clips, always the same, with unlike motions of the same scan.

    A scan has one clip in the held-out split, four in the training split, and two in the others.

    Args:
        size: (height, width) of the clips in pixels.
        frames: of a clip.

    Returns:
        Clips of shape (N, T, 3, H, W); every split holds all 80 captions at the same positions.

    Raises:
        DataError: the digits could not move in clips of this size.
    """
    if min(size) <= DIGIT_SIZE or frames < 2:
        raise DataError(
            f"Digits of {DIGIT_SIZE}x{DIGIT_SIZE} pixels can't move in {frames} frames of "
            f"{size[0]}x{size[1]}.",
            hint=f"ask for more than {DIGIT_SIZE} pixels each way, and two frames or more",
        )
    scans = digit_splits()
    return Splits(
        train=_clips(scans.train, "train", size, frames),
        heldout=_clips(scans.heldout, "heldout", size, frames),
        reward=_clips(scans.reward, "reward", size, frames),
        judge=_clips(scans.judge, "judge", size, frames),
    )


def frames_by_digit(clips: CaptionedMedia) -> CaptionedMedia:
    """Return every frame as an image of its own, (N T, 3, H, W), captioned with its digit."""
    digit = {c: i for i, c in enumerate(DIGIT_NAMES)}
    of_caption = torch.tensor([digit[caption.split()[1]] for caption in clips.captions])
    each = of_caption[clips.caption_id].repeat_interleave(clips.media.shape[1])
    return CaptionedMedia(clips.media.flatten(0, 1), each, DIGIT_NAMES)


def _clips(scans: CaptionedMedia, name: str, size: tuple[int, int], frames: int) -> CaptionedMedia:
    """Return the clips of one split; the motions of each digit are dealt evenly."""
    captions = moving_captions()
    position = {caption: i for i, caption in enumerate(captions)}
    num_turns = CLIPS_PER_SCAN[name]
    motion = torch.empty(num_turns, len(scans), dtype=torch.int64)
    for digit in range(len(DIGIT_NAMES)):
        rows = (scans.caption_id == digit).nonzero().flatten()
        rows = rows[permutation(len(rows), 0, f"moving-{name}", digit)]
        for turn in range(num_turns):
            # Evenly spread over the round, the clips of a scan never have the same motion.
            shift = turn * len(MOTIONS) // num_turns
            motion[turn, rows] = (torch.arange(len(rows)) + shift) % len(MOTIONS)
    clips = [_move(scans.media[:, 0], turn, size, frames) for turn in motion]
    ids = torch.tensor(
        [
            position[_caption(d, m)]
            for turn in motion.tolist()
            for d, m in zip(scans.caption_id.tolist(), turn, strict=True)
        ]
    )
    return CaptionedMedia(torch.cat(clips)[:, :, None].expand(-1, -1, 3, -1, -1), ids, captions)


def _move(scans: Tensor, motion: Tensor, size: tuple[int, int], frames: int) -> Tensor:
    """Scans (N, 8, 8) along their motions (N,): grey clips (N, T, H, W).

    The middle of a path is the middle of the picture. Between pixels the digit is interpolated
    linearly.
    """
    per_frame = speeds(size, frames)
    velocity = torch.tensor(
        [[per_frame[speed] * step for step in DIRECTIONS[way]] for way, speed in MOTIONS]
    )[motion]
    free = torch.tensor([size[1] - DIGIT_SIZE, size[0] - DIGIT_SIZE])
    times = torch.arange(frames) - (frames - 1) / 2
    corner = free / 2 + velocity[:, None] * times[:, None]  # (N, T, 2) as x, y
    rows, columns = _placement(corner[..., 1], size[0]), _placement(corner[..., 0], size[1])
    return torch.einsum("nthi,nij,ntwj->nthw", rows, scans, columns)


def _placement(corner: Tensor, length: int) -> Tensor:
    """Matrices (..., length, 8) that put 8 pixels into ``length``, from ``corner`` on."""
    distance = torch.arange(length)[:, None] - torch.arange(DIGIT_SIZE) - corner[..., None, None]
    return F.relu(1 - distance.abs())
