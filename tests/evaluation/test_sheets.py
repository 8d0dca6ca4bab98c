"""Sheets of samples come back as they were written; what is none is a data error."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ddrl.errors import DataError
from ddrl.evaluation.sheets import read_sheet, write_sheets


def test_a_sheet_comes_back(tmp_path: Path) -> None:
    samples = np.arange(2 * 3 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 3, 4, 5, 3)
    (path,) = write_sheets({"größe/run": samples}, tmp_path)
    assert np.array_equal(read_sheet(path), samples)


def test_no_sheet_takes_the_place_of_another(tmp_path: Path) -> None:
    names = ["a/b", "a-b", "A-B", "run", "/x/" + "y" * 300, "z" * 230, "猫" * 80, "/強/い"]
    samples = {name: np.full((1, 1, 2, 2, 3), i, np.uint8) for i, name in enumerate(names)}
    written = write_sheets(samples, tmp_path)
    assert [int(read_sheet(path).max()) for path in written] == list(range(len(names)))
    assert written[3].name == "run.png"
    assert len({path.name.casefold() for path in written}) == len(names)


@pytest.mark.parametrize("tile", ["0x0", "x", "-1x2", "7x7", "99999999999x1", "1" * 5000 + "x1"])
def test_a_tile_that_does_not_fit_is_no_sheet(tmp_path: Path, tile: str) -> None:
    note = PngImagePlugin.PngInfo()
    note.add_text("ddrl-tile", tile)
    Image.new("RGB", (8, 4)).save(tmp_path / "a.png", pnginfo=note)
    with pytest.raises(DataError, match="is no sheet of samples"):
        read_sheet(tmp_path / "a.png")


def test_no_other_decoder_and_no_pipe_is_asked(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    os.mkfifo(tmp_path / "b.png")
    for name in ("a.png", "b.png", "c.png"):
        with pytest.raises(DataError, match="is no sheet of samples"):
            read_sheet(tmp_path / name)
