"""Contact sheets: a report's sample grids as PNG files, a row per prompt and a column per seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from ddrl.disk import file_stem, open_regular
from ddrl.errors import DataError

_TOO_LARGE = Image.DecompressionBombError
_MAX_NAME = 200  # bytes; file systems take 255, with the ending
_TILE = "ddrl-tile"  # text chunk of the PNG: "HEIGHTxWIDTH" of one picture


def write_sheets(samples: Mapping[str, NDArray[np.uint8]], folder: Path) -> list[Path]:
    """Write one sheet per model.

    Args:
        samples: name -> uint8 (P, S, H, W, 3).
        folder: made if it is missing.

    Returns:
        The files, ``NAME.png`` each; of a name that is a path, its letters and a hash.

    Raises:
        DataError: the folder can't be written.
    """
    written, names = [], _file_names(samples)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, grid in samples.items():
            prompts, seeds, height, width, _ = grid.shape
            rows = grid.transpose(0, 2, 1, 3, 4).reshape(prompts * height, seeds * width, 3)
            note = PngImagePlugin.PngInfo()
            note.add_text(_TILE, f"{height}x{width}")
            path = folder / f"{names[name]}.png"
            Image.fromarray(np.ascontiguousarray(rows)).save(path, pnginfo=note)
            written.append(path)
    except OSError as error:
        raise DataError(
            f"The sheets can't be written to {folder}: {error.strerror or error}.",
            hint="name a folder that is writable and has space left",
        ) from error
    return written


def _file_names(names: Iterable[str]) -> dict[str, str]:
    """Names of files, without their ending: no path, none too long, and each another one."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        stem = name
        if "/" in name or name.casefold() in taken or len(name.encode()) > _MAX_NAME:
            stem = f"{file_stem(name)}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")
        taken.add(stem.casefold())
        found[name] = stem
    return found


def read_sheet(path: Path) -> NDArray[np.uint8]:
    """Return the pictures of a sheet, uint8 (P, S, H, W, 3).

    Raises:
        DataError: there is no such file, or it is no sheet.
    """
    try:
        with open_regular(path) as file, Image.open(file, formats=["PNG"]) as image:
            tile = str(image.info[_TILE])
            pixels = np.asarray(image.convert("RGB"))
        height, width = map(int, tile.split("x"))
        rows = pixels.reshape(-1, height, pixels.shape[1] // width, width, 3)
    except (OSError, LookupError, ValueError, ArithmeticError, _TOO_LARGE) as error:
        raise DataError(f"{path} is no sheet of samples: {error}.") from error
    return np.ascontiguousarray(rows.transpose(0, 2, 1, 3, 4))
