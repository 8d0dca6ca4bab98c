"""Renders words as pictures, and makes prompts."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

from ddrl.records import Prompts

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"

# Common English nouns.
WORDS = """time year people way day man thing woman life child world school state family student
group country problem hand part place case week company system program question work government
number night point home water room mother area money story fact month lot right study book eye job
word business issue side kind head house service friend father power hour game line end member law
car city community name president team minute idea body information back parent face others level
office door health person art war history party result change morning reason research girl guy
moment air teacher force education foot boy age policy music market sense nation plan college
interest death course someone experience behind reach local kill six remain effect suggest class
control field development role wife rate drug show leader light voice product worker building
action record paper space ground form event official matter center couple site project activity
star table need court oil situation cost industry figure street image phone data picture practice
piece land north film bank bed price garden bridge window summer winter
spring autumn river mountain valley forest flower animal horse rabbit tiger chicken apple orange
bread coffee bottle chair guitar piano island clock""".split()  # noqa: SIM905


def noise(*shape: int) -> Tensor:
    """Pixels in [0, 1], the same each time."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def prompts(*texts: str) -> Prompts:
    return Prompts(torch.arange(len(texts)), texts, tuple({} for _ in texts))


def render(word: str, *, height: int = 32, width: int = 96, blur: float = 0) -> Tensor:
    """A word in black on white, as large as fits; pixels in [0, 1], shape (3, H, W)."""
    size = height
    while True:
        font = ImageFont.truetype(str(FONT), size)
        left, top, right, bottom = font.getbbox(word)
        if right - left <= width - 6 and bottom - top <= height - 6:
            break
        size -= 1
    picture = Image.new("RGB", (width, height), "white")
    at = ((width - right - left) / 2, (height - bottom - top) / 2)
    ImageDraw.Draw(picture).text(at, word, fill="black", font=font)
    picture = picture.filter(ImageFilter.GaussianBlur(blur)) if blur else picture
    return torch.from_numpy(np.array(picture)).movedim(-1, 0).float() / 255


def on_page(word: str, *, size: int = 128, height: int = 24) -> Tensor:
    """A word somewhere on a square white page, shape (3, size, size)."""
    page = torch.ones(3, size, size)
    width = size - size // 4
    page[:, size // 2 : size // 2 + height, size // 8 : size // 8 + width] = render(
        word, height=height, width=width
    )
    return page
