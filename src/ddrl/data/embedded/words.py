"""The embedded words: a short word drawn in a colour, captioned as 'the word "lamp" in red'.

Caption and colour are asked for; font, size, place and background are free, so that samples of one
prompt should differ in them. The fonts are those that matplotlib ships. The four splits are drawn
separately, so a held-out picture is one that no model has seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ddrl.data.embedded.sources import CaptionedMedia, Splits
from ddrl.seeding import generator

SIZE = (32, 96)
"""(height, width) of the pictures in pixels."""

WORDS = tuple(
    """lamp fish bird moon cat dog key hat house grape bread chair
    star book rain milk cup bus jam egg water horse queen zebra
    wolf frog ship ring box fox river light
    """.split()  # noqa: SIM905
)

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.75, 0.08, 0.08),
    "blue": (0.1, 0.15, 0.75),
    "yellow": (0.98, 0.88, 0.2),
    "white": (0.97, 0.97, 0.97),
}
"""Colour word to (red, green, blue) in [0, 1]. The first two stand on light, the others on dark."""

DARK_COLOURS = ("red", "blue")

FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono-Bold"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "STIXGeneralBol", "cmb10"),
)
"""Names of font files that matplotlib ships."""

BACKGROUNDS = ("plain", "gradient", "stripes", "bands")

PER_CAPTION = {"train": 80, "heldout": 8, "reward": 8, "judge": 24}
X_HEIGHTS = (10.0, 12.5)  # height of an "x" in pixels
LETTER = 16  # from letter to letter in pixels, whatever the font: places are learned sooner
PERIOD = 16  # of stripes and bands in pixels
SHIFT = (2, 2)  # largest distance of a word from the middle in pixels, across and down


@dataclass(frozen=True)
class DrawnWords:
    """N pictures of words, and what they were drawn with.

    Attributes:
        data: pictures (N, 3, 32, 96) and captions.
        word: N words.
        colour: position in ``COLOURS``, int64, shape (N,).
        font: position in ``FONTS``, int64, shape (N,).
        background: position in ``BACKGROUNDS``, int64, shape (N,).
    """

    data: CaptionedMedia
    word: tuple[str, ...]
    colour: Tensor
    font: Tensor
    background: Tensor


def word_captions() -> tuple[str, ...]:
    """Return the 64 captions: every word in two of the four colours, all once before any again."""
    num = len(COLOURS)
    return tuple(
        _caption(word, (i + i // num + again) % num)
        for again in (0, 2)
        for i, word in enumerate(WORDS)
    )


@cache
def word_splits() -> Splits:
    """Draw the pictures, always the same; every split holds all captions, each equally often."""
    return Splits(**{name: draw_words(name).data for name in PER_CAPTION})


def draw_words(split: str) -> DrawnWords:
    """Draw one split, always the same.

    Args:
        split: ``train``, ``heldout``, ``reward`` or ``judge``.
    """
    captions = word_captions()
    caption_id = torch.arange(len(captions)).repeat(PER_CAPTION[split])
    return _draw(captions, caption_id, generator(0, f"words-{split}"))


def draw_letters(num: int) -> DrawnWords:
    """Draw random letters in place of words, always the same: data that no word can be known by.

    Args:
        num: pictures; each has a caption of its own.
    """
    rng = generator(0, "words-letters")
    lengths = torch.randint(3, 6, (num,), generator=rng).tolist()
    letters = torch.randint(26, (num, 5), generator=rng).tolist()
    colours = torch.randint(len(COLOURS), (num,), generator=rng).tolist()
    captions = tuple(
        _caption("".join(map("abcdefghijklmnopqrstuvwxyz".__getitem__, row[:length])), colour)
        for row, length, colour in zip(letters, lengths, colours, strict=True)
    )
    return _draw(captions, torch.arange(num), rng)


def _caption(word: str, colour: int) -> str:
    return f'the word "{word}" in {tuple(COLOURS)[colour]}'


def _draw(captions: tuple[str, ...], caption_id: Tensor, rng: torch.Generator) -> DrawnWords:
    """Draw what captions say."""
    font = torch.randint(len(FONTS), caption_id.shape, generator=rng)
    background = torch.randint(len(BACKGROUNDS), caption_id.shape, generator=rng)
    words = tuple(captions[i].split('"')[1] for i in caption_id.tolist())
    colours = [captions[i].split()[-1] for i in caption_id.tolist()]
    colour = torch.tensor([tuple(COLOURS).index(name) for name in colours])
    ink = _ink(words, font, torch.rand((len(words), 3), generator=rng))[:, None]
    front = torch.tensor(list(COLOURS.values()))[colour]
    front = (front + 0.06 * (2 * torch.rand(front.shape, generator=rng) - 1)).clamp(0, 1)
    is_light = torch.tensor([name in DARK_COLOURS for name in colours])
    back = _backgrounds(background, is_light, rng)
    media = torch.lerp(back, front[:, :, None, None].expand_as(back), ink)
    data = CaptionedMedia(media, caption_id, captions)
    return DrawnWords(data, words, colour, font, background)


def _ink(words: tuple[str, ...], font: Tensor, free: Tensor) -> Tensor:
    """Return how much of each pixel the letters cover, shape (N, H, W).

    Args:
        words: N words.
        font: positions in ``FONTS``, shape (N,).
        free: size and place across and down, each in [0, 1], shape (N, 3).
    """
    height, width = SIZE
    pictures = []
    for word, face, (size, across, down) in zip(words, font.tolist(), free.tolist(), strict=True):
        x_height = X_HEIGHTS[0] + size * (X_HEIGHTS[1] - X_HEIGHTS[0])
        drawn = _font(face, round(x_height / _x_height(face)))
        # All words stand on one line, with room for the strokes below it.
        top = drawn.getbbox("l", anchor="ls")[1]
        bottom = drawn.getbbox("g", anchor="ls")[3]
        y = (height - top - bottom) / 2 + SHIFT[1] * (2 * down - 1)
        y = min(max(y, 1 - top), height - 1 - bottom)
        x = width / 2 + SHIFT[0] * (2 * across - 1)
        picture = Image.new("L", (width, height))
        draw = ImageDraw.Draw(picture)
        for place, letter in enumerate(word):
            at = x + LETTER * (place - (len(word) - 1) / 2)
            draw.text((at, y), letter, fill=255, font=drawn, anchor="ms")
        pictures.append(np.asarray(picture))
    return torch.from_numpy(np.stack(pictures)).float() / 255


@cache
def _font(face: int, size: int) -> ImageFont.FreeTypeFont:
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{FONTS[face]}.ttf"
    # The layout that is in every build of Pillow, so that pictures are the same everywhere.
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


@cache
def _x_height(face: int) -> float:
    """Height of an "x" over the font's size."""
    _, top, _, bottom = _font(face, 200).getbbox("x")
    return (bottom - top) / 200


def _backgrounds(kind: Tensor, is_light: Tensor, rng: torch.Generator) -> Tensor:
    """Backgrounds of a kind, light or dark enough for letters: (N,), (N,) -> (N, 3, H, W).

    All are smooth, and linear in few numbers: a small network learns them soon.
    """
    height, width = SIZE
    num, turn = len(kind), 2 * torch.pi
    free = torch.rand((2, num, 3, 1, 1), generator=rng)
    is_light = is_light[:, None, None, None]
    plain = torch.where(is_light, 0.86 + 0.14 * free[0], 0.14 * free[0])
    other = torch.where(is_light, 0.68 + 0.14 * free[1], 0.18 + 0.14 * free[1])
    x = torch.arange(width) + 0.5 - width / 2
    y = (torch.arange(height) + 0.5 - height / 2)[:, None]
    angle = turn * torch.rand((num, 1, 1), generator=rng)
    reach = angle.cos().abs() * width / 2 + angle.sin().abs() * height / 2
    gradient = 0.5 + 0.5 * (angle.cos() * x + angle.sin() * y) / reach
    phase = turn * torch.rand((num, 1, 1), generator=rng)
    stripes = 0.5 + 0.5 * torch.cos(turn * x / PERIOD + phase).expand_as(gradient)
    bands = 0.5 + 0.5 * torch.cos(turn * y / PERIOD + phase).expand_as(gradient)
    amount = torch.stack([torch.zeros_like(gradient), gradient, stripes, bands])
    return torch.lerp(plain, other, amount[kind, torch.arange(num)][:, None])
