"""A few small pictures of a run's samples, to look at while it trains."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from torch import Tensor
from torch.nn import functional

from ddrl.disk import open_regular, replace_file
from ddrl.errors import CheckpointError
from ddrl.training.manifest import step_of

SHOWN = 8
"""Pictures of a step, at most."""
SIDE = 128
"""Longest side of a picture in pixels, at most."""
KEPT = 4
"""Number of the newest sheets that a run's folder keeps."""
_CHUNK = "ddrl-shown"
_TOO_LARGE = Image.DecompressionBombError

Source = Literal["audit", "rollout"]


@dataclass(frozen=True)
class Shown:
    """Pictures of a step's samples.

    Attributes:
        step: iterations that made the weights.
        source: ``audit``, with the same prompts and noise every time, or ``rollout``.
        prompts: prompt of each picture.
        pictures: uint8 (N, H, W, 3); of a clip its middle frame.
    """

    step: int
    source: Source
    prompts: tuple[str, ...]
    pictures: NDArray[np.uint8]

    def png(self) -> bytes:
        """Return all pictures in one row as a PNG file, which also holds step and prompts."""
        num, height, width, _ = self.pictures.shape
        row = self.pictures.transpose(1, 0, 2, 3).reshape(height, num * width, 3)
        about = {"step": self.step, "source": self.source, "prompts": self.prompts}
        note = PngImagePlugin.PngInfo()
        note.add_itxt(_CHUNK, json.dumps(about))
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(row)).save(buffer, "PNG", pnginfo=note)
        return buffer.getvalue()

    @classmethod
    def of_png(cls, content: bytes) -> Shown:
        """Read what :meth:`png` has made.

        Raises:
            ValueError: the content is something else.
        """
        try:
            with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
                about = json.loads(str(image.info[_CHUNK]))
                pixels = np.asarray(image.convert("RGB"))
            prompts = tuple(map(str, about["prompts"]))
            rows = pixels.reshape(pixels.shape[0], len(prompts), -1, 3)
            source: Source = "audit" if about["source"] == "audit" else "rollout"
            pictures = np.ascontiguousarray(rows.transpose(1, 0, 2, 3))
            return cls(int(about["step"]), source, prompts, pictures)
        except (OSError, LookupError, TypeError, ValueError, ArithmeticError, _TOO_LARGE) as error:
            raise ValueError(f"it holds no samples: {error}") from error

    def pack(self) -> str:
        """Return the PNG file as text, for JSON."""
        return base64.b64encode(self.png()).decode("ascii")

    @classmethod
    def unpack(cls, text: str) -> Shown:
        """Read what :meth:`pack` has made."""
        return cls.of_png(base64.b64decode(text))


def small_pictures(media: Tensor) -> Tensor:
    """Make small pictures of media; of clips, of their middle frame.

    Args:
        media: pixels in [0, 1], shape (N, 3, H, W) or (N, T, 3, H, W).

    Returns:
        uint8 (N, 3, h, w) on the CPU, whose longer side has at most 128 pixels.
    """
    pictures = media[:, media.shape[1] // 2] if media.ndim == 5 else media
    pictures = pictures.detach().float().cpu().nan_to_num()
    factor = SIDE / max(pictures.shape[-2:])
    if factor < 1:
        size = [max(1, round(side * factor)) for side in pictures.shape[-2:]]
        pictures = functional.interpolate(pictures, size=size, mode="area")
    return (pictures.clamp(0, 1) * 255).round().to(torch.uint8)


def as_shown(step: int, source: Source, texts: Sequence[str], pictures: Tensor) -> Shown:
    """Label small pictures, uint8 (N, 3, h, w), with their step, source and texts."""
    return Shown(step, source, tuple(texts), pictures.permute(0, 2, 3, 1).numpy())


class SampleSheets:
    """The newest pictures as files in a run's folder: ``shown/step-00000010.png``.

    Args:
        folder: folder of the files.
        resume_at: iterations that a resumed run keeps; later files are removed.

    Raises:
        CheckpointError: the folder can't be written.
    """

    def __init__(self, folder: Path, *, resume_at: int = 0) -> None:
        self._folder = folder
        for step, path in _sheets(folder).items():
            if step > resume_at:
                path.unlink(missing_ok=True)

    def write(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Do nothing: metrics have files of their own."""

    def show(self, shown: Shown | None, *, sentence: str, step: int) -> None:  # noqa: ARG002
        """Write the pictures, and remove old ones."""
        if shown is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(self._folder / f"step-{shown.step:08d}.png", shown.png())
            for old in sorted(_sheets(self._folder).items())[:-KEPT]:
                old[1].unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"Samples can't be written to {self._folder}: {error.strerror or error}.",
                hint="free space or make the folder writable, then run the same command again; "
                "earlier checkpoints are kept",
            ) from error

    def close(self) -> None:
        """Do nothing: no file stays open."""


def newest_sheet(folder: Path) -> Shown | None:
    """Read the newest pictures of a run; None where none can be read."""
    for _, path in sorted(_sheets(folder).items(), reverse=True):
        try:
            with open_regular(path) as file:
                return Shown.of_png(file.read())
        except (OSError, ValueError):
            continue
    return None


def _sheets(folder: Path) -> dict[int, Path]:
    """The files by step."""
    found: dict[int, Path] = {}
    try:
        for path in folder.iterdir():
            step = step_of(path.with_suffix("")) if path.suffix == ".png" else None
            if step is not None:
                found[step] = path
    except OSError:
        return {}
    return found
