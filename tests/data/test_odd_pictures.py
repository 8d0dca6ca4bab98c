"""Pictures of odd kinds: each is read as a browser shows it, with notes, or refused."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin
from tests.data.making import caption, cut, write_image
from tests.data.odd_media import profile

from ddrl.data.check import check
from ddrl.data.media.framing import Bucket, Framing
from ddrl.data.media.images import read_image
from ddrl.data.media.reading import frame_media
from ddrl.data.problems import BrokenFileError

RED, WHITE, GREY = (255, 0, 0), (255, 255, 255), (100, 100, 100)
SIZE = (24, 16)


@dataclass(frozen=True)
class Shown:
    """A picture of one colour.

    Attributes:
        make: writes it into a folder.
        colour: that a browser shows.
        note: what `data check` says of it, kind and message, as an expression.
        off: by how much any number may differ.
    """

    make: Callable[[Path], Path]
    colour: Sequence[int]
    note: str = ""
    off: int = 1


def save(folder: Path, name: str, mode: str, colour: object, **options: Any) -> Path:
    """A picture of one colour."""
    Image.new(mode, SIZE, colour).save(folder / name, **options)  # type: ignore[arg-type]
    return folder / name


def frames(folder: Path, name: str, number: int, **options: Any) -> Path:
    """An animation whose first picture is red."""
    first, *others = (Image.new("RGB", SIZE, (255 - 50 * n, 0, 0)) for n in range(number))
    first.save(folder / name, save_all=True, append_images=others, duration=100, **options)
    return folder / name


def palette(folder: Path, name: str, **options: Any) -> Path:
    """A picture with a palette, red throughout."""
    image = Image.new("P", SIZE, 1)
    image.putpalette([0, 0, 0, *RED])
    image.save(folder / name, **options)
    return folder / name


def spoil_exif(path: Path) -> Path:
    """Metadata that end too early, of which Pillow warns."""
    exif = Image.Exif()
    exif[0x0110] = "a camera of a long name"
    Image.new("RGB", SIZE, GREY).save(path, exif=exif)
    content = path.read_bytes()
    at = (
        content.index(b"\x10\x01\x02\0")
        if b"\x10\x01\x02\0" in content
        else content.index(b"\x01\x10\0\x02")
    )
    path.write_bytes(content[: at + 8] + b"\x7f\xff\xff\xff" + content[at + 12 :])
    return path


def gamma(folder: Path, value: float) -> Path:
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", round(value * 100_000).to_bytes(4, "big"))
    return save(folder, "a.png", "RGB", GREY, pnginfo=info)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SWAPPED = profile("RGB", columns="bgr")  # what is stored as blue is shown as red
LINEAR = profile("GRAY", gamma=1.0)
ANIMATION = "animation is an animation, of which the first frame is used"
NO_PROFILE = r"colour_profile has a colour profile that can't be applied \(.+\)"
# Light of (100 / 255) in sRGB.
LIGHTER = round(255 * (1.055 * (100 / 255) ** (1 / 2.4) - 0.055))

PICTURES = {
    "RGB": Shown(lambda p: save(p, "a.png", "RGB", RED), RED, off=0),
    "profile sRGB": Shown(
        lambda p: save(p, "a.png", "RGB", (1, 200, 77), icc_profile=SRGB), (1, 200, 77), off=0
    ),
    "profile, png": Shown(
        lambda p: save(p, "a.png", "RGB", (0, 0, 255), icc_profile=SWAPPED), RED, off=2
    ),
    "profile, jpeg": Shown(
        lambda p: save(p, "a.jpg", "RGB", (0, 0, 255), icc_profile=SWAPPED, quality=100), RED, off=4
    ),
    "profile, webp": Shown(
        lambda p: save(p, "a.webp", "RGB", (0, 0, 255), icc_profile=SWAPPED, lossless=True),
        RED,
        off=2,
    ),
    "profile, palette": Shown(
        lambda p: palette(p, "a.png", icc_profile=SWAPPED), (0, 0, 255), off=2
    ),
    "profile, alpha": Shown(
        lambda p: save(p, "a.png", "RGBA", (0, 0, 255, 255), icc_profile=SWAPPED), RED, off=2
    ),
    "profile, clear": Shown(
        lambda p: save(p, "a.png", "RGBA", (0, 0, 255, 0), icc_profile=SWAPPED), WHITE
    ),
    "profile, half clear": Shown(
        lambda p: save(p, "a.png", "RGBA", (0, 0, 255, 51), icc_profile=SWAPPED),
        (255, 204, 204),
        off=2,
    ),
    "profile, grey": Shown(
        lambda p: save(p, "a.png", "L", 100, icc_profile=LINEAR), (LIGHTER,) * 3, off=2
    ),
    "profile, 16-bit grey": Shown(
        lambda p: save(p, "a.png", "I;16", 100 * 257, icc_profile=LINEAR), (LIGHTER,) * 3, off=2
    ),
    "profile of another mode": Shown(
        lambda p: save(p, "a.png", "RGB", GREY, icc_profile=LINEAR), GREY, NO_PROFILE
    ),
    "profile of another mode, CMYK": Shown(
        lambda p: save(p, "a.jpg", "CMYK", (0, 255, 255, 0), icc_profile=SWAPPED),
        RED,
        NO_PROFILE,
        off=5,
    ),
    "broken profile": Shown(
        lambda p: save(p, "a.png", "RGB", GREY, icc_profile=SWAPPED[:200]), GREY, NO_PROFILE
    ),
    "no profile at all": Shown(
        lambda p: save(p, "a.jpg", "RGB", GREY, icc_profile=b"not a profile"), GREY, NO_PROFILE
    ),
    "gamma": Shown(
        lambda p: gamma(p, 1.0), GREY, "colour_profile states a gamma of 1, which is not applied"
    ),
    "usual gamma": Shown(lambda p: gamma(p, 0.45455), GREY),
    "animated png": Shown(lambda p: frames(p, "a.png", 3), RED, ANIMATION),
    "animated webp": Shown(lambda p: frames(p, "a.webp", 3, lossless=True), RED, ANIMATION),
    "png of one frame": Shown(lambda p: frames(p, "a.png", 1), RED),
    "still gif": Shown(lambda p: frames(p, "a.gif", 1), RED),
    "still gif, clear": Shown(lambda p: save(p, "a.gif", "RGBA", (255, 0, 0, 0)), WHITE),
    "jpeg with a preview": Shown(lambda p: frames(p, "a.mpo", 2).rename(p / "a.jpg"), RED, off=3),
    "broken metadata": Shown(
        lambda p: spoil_exif(p / "a.jpg"), GREY, "decoder_warning is read with a warning: .+", off=2
    ),
    "CMYK": Shown(lambda p: save(p, "a.jpg", "CMYK", (0, 255, 255, 0)), RED, off=5),
    "16-bit grey": Shown(lambda p: save(p, "a.png", "I;16", 100 * 257), GREY, off=0),
    "grey with alpha": Shown(lambda p: save(p, "a.png", "LA", (0, 0)), WHITE),
    "one bit": Shown(lambda p: save(p, "a.png", "1", 1), WHITE),
    "palette": Shown(lambda p: palette(p, "a.png"), RED),
    "palette, clear": Shown(lambda p: palette(p, "a.png", transparency=1), WHITE),
    "palette, clear in part": Shown(
        lambda p: palette(p, "a.png", transparency=b"\xff\x33"), (255, 204, 204)
    ),
    "colour key": Shown(lambda p: save(p, "a.png", "RGB", RED, transparency=RED), WHITE),
    "webp, clear": Shown(lambda p: save(p, "a.webp", "RGBA", (255, 0, 0, 0), lossless=True), WHITE),
    "misnamed": Shown(
        lambda p: save(p, "a.png", "RGB", RED).rename(p / "a.jpg"),
        RED,
        "other_format is read as .+",
    ),
}


@pytest.mark.parametrize("case", PICTURES.values(), ids=PICTURES.keys())
def test_a_picture_is_what_a_browser_shows(tmp_path: Path, case: Shown) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the saving
        path = caption(case.make(tmp_path))
    report = check(tmp_path)
    assert report.num_images == 1, report.lines()
    said = "".join(f"{problem.kind} {problem.message}" for problem in report.problems)
    assert re.fullmatch(case.note, said), said
    assert {problem.path for problem in report.problems} <= {path.name}
    pixels = read_image(path).numpy().astype(int)
    assert pixels.shape == (3, 16, 24)
    assert np.abs(pixels - np.reshape(case.colour, (3, 1, 1))).max() <= case.off, pixels[:, 0, 0]
    framed = frame_media(path, Framing((Bucket(16, 24),))).pixels.numpy().astype(int)
    assert np.abs(framed - pixels).max() <= 1


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif"])
def test_a_damaged_picture_is_refused_by_both(tmp_path: Path, name: str) -> None:
    path = caption(cut(write_image(tmp_path / name, width=96, height=96), 0.6))
    (problem,) = check(tmp_path).broken
    assert problem.kind == "broken"
    with pytest.raises(BrokenFileError, match=re.escape(problem.message[:20])):
        frame_media(path, Framing((Bucket(16, 16),)))


def test_an_animated_gif_is_a_clip_and_its_first_frame_a_picture(tmp_path: Path) -> None:
    path = caption(frames(tmp_path, "a.gif", 3))
    assert check(tmp_path).num_videos == 1
    assert frame_media(path, Framing((Bucket(16, 24, 3),))).pixels.shape == (3, 3, 16, 24)
    assert read_image(path)[:, 0, 0].tolist() == [255, 0, 0]


def test_notes_of_a_first_frame_say_that_it_is_one(tmp_path: Path) -> None:
    caption(frames(tmp_path, "a.gif", 3)).with_suffix(".json").write_text(
        '{"caption": "x", "first_frame": "b.webp"}'
    )
    frames(tmp_path, "b.webp", 2, lossless=True)
    (problem,) = check(tmp_path).problems
    assert (problem.path, problem.kind) == ("a.gif", "animation")
    assert problem.message == "its first frame is an animation, of which the first frame is used"
