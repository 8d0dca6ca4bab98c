"""Draw the pictures of docs/hacking.md and docs/howto/report.md.

python docs/hacking_pictures.py          samples and curves, from benchmarks/results/hacking.json
python docs/hacking_pictures.py --runs   the parts of a report, too, from runs/hacking in a browser
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageChops, PngImagePlugin

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results import RESULTS, ROOT, StaleError, read_result
from run_pictures import BROWSERS, needed

IMAGES = ROOT / "docs" / "images"
RESULT = RESULTS / "hacking.json"
REPORT = ROOT / "runs/hacking/classifier/report.html"
COLOURS = {"Base": "#7a8796", "DDRL": "#0072b2", "No regularizer": "#e07b00"}
ALARM = "#b3291f"
SIDE = 8  # pixels of a digit
GREY = 190  # between digits, so that a white one is seen
WIDTH = 1160  # of a page, in CSS pixels
PARTS = {
    "verdicts": "header.top > :not(.cards), section, footer",
    "numbers": "header.top, section:not(:nth-of-type(1)), footer",
    "samples": "header.top, section:not(:nth-of-type(2)), footer",
    "worst": "header.top, section:not(:nth-of-type(3)), footer",
    "pixels": "header.top, section:not(:nth-of-type(4)), footer",
    "curves": "header.top, section:not(:nth-of-type(5)), footer",
}
"""Parts of a report, and what is hidden to see each of them alone."""


def of_result() -> str:
    """What a picture says of the result that it was drawn from."""
    digest = hashlib.sha256(RESULT.read_bytes()).hexdigest()
    return json.dumps({"results": {RESULT.relative_to(ROOT).as_posix(): digest}})


def strip(pictures: list[str]) -> NDArray[np.uint8]:
    """Digits side by side, a grey line between them and a broader one between prompts."""
    levels = [np.frombuffer(bytes.fromhex(one), np.uint8).reshape(SIDE, SIDE) for one in pictures]
    line = np.full((SIDE, 1), GREY, np.uint8)
    cells = [part for one in levels for part in (one, line)]
    per_prompt = 2 * len(pictures) // 10
    for prompt in range(9, 0, -1):
        cells.insert(prompt * per_prompt, line)
    return np.hstack(cells)[:, :-1]


def samples() -> None:
    """Real digits, and what every model draws from the same noise."""
    result = read_result("hacking")
    base = result["classifier"]["samples"]["Base"]
    rows = {"Real digits": result["data"], "Base model": base}
    for reward, name in (("classifier", "classifier"), ("ink", "mean ink")):
        for method in ("DDRL", "No regularizer"):
            rows[f"{method},\nreward: {name}"] = result[reward]["samples"][method]
    figure = Figure(figsize=(8.6, 3.1), layout="constrained", dpi=110)
    axes = figure.subplots(len(rows), 1)
    for one, (name, pictures) in zip(axes, rows.items(), strict=True):
        one.imshow(strip(pictures), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        one.set(xticks=[], yticks=[])
        one.spines[:].set_color("#bebebe")
        colour = ALARM if name.startswith("No") else "black"
        one.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8.5, color=colour)
    step = 2 * SIDE + 3
    for prompt, caption in enumerate(result["captions"]):
        axes[0].text(prompt * step + SIDE, -2, caption, ha="center", fontsize=8)
    figure.savefig(IMAGES / "hacking_samples.png", metadata={"Source": of_result()})


def curves() -> None:
    """Reward and judge as training goes on, for a reward that fools the judge and one that doesn't."""
    result = read_result("hacking")
    figure = Figure(figsize=(8.6, 4.6), layout="constrained", dpi=110)
    grid = figure.subplots(2, 2, sharex=True)
    heads = {"classifier": "reward: classifier", "ink": "reward: mean ink"}
    for column, (reward, head) in enumerate(heads.items()):
        top, bottom = grid[:, column]
        for method, curve in result[reward]["curves"].items():
            judge = [100 * value for value in curve["judge_accuracy"]]
            for axes, values in ((top, curve["reward"]), (bottom, judge)):
                axes.plot(curve["step"], values, color=COLOURS[method], linewidth=1.8, label=method)
            _mark_hacked(top, curve, curve["reward"])
            _mark_hacked(bottom, curve, judge)
        top.set_title(head, fontsize=10)
        bottom.set(ylim=(0, 105), xlabel="training step")
    grid[0, 0].set_ylabel("reward")
    grid[1, 0].set_ylabel("judge, % right")
    grid[0, 0].legend(fontsize=8, frameon=False, loc="lower right")
    for one in grid.flat:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(color="#e1e6ec", linewidth=0.8)
        one.set_axisbelow(True)
    figure.savefig(IMAGES / "hacking_curves.png", metadata={"Source": of_result()})


def _mark_hacked(axes: Axes, curve: dict[str, Any], values: list[float]) -> None:
    """A mark where an audit on the way first said hacked."""
    if 1 not in curve["hacked"]:
        return
    at = curve["hacked"].index(1)
    look = {"color": ALARM, "marker": "X", "markersize": 8, "linestyle": "none"}
    axes.plot(curve["step"][at], values[at], label="first audit that says hacked", **look)


def report_parts() -> None:
    """Each part of a report alone, cut out of the page.

    Raises:
        StaleError: there is no report or no browser.
    """
    page = needed(REPORT, "python benchmarks/hacking.py").read_text(encoding="utf-8")
    trained = read_result("hacking")["provenance"]["trained_at"]
    said = PngImagePlugin.PngInfo()
    source = {"runs": {RESULT.relative_to(ROOT).as_posix(): trained}}
    said.add_text("Source", json.dumps(source))
    for name, hidden in PARTS.items():
        style = f"<style>{hidden} {{ display: none }} main {{ padding: 1rem }}</style></head>"
        picture = _trimmed(_shot(page.replace("</head>", style, 1)))
        small = picture.quantize(96, dither=Image.Dither.NONE)
        small.save(IMAGES / f"report_{name}.png", pnginfo=said, optimize=True)


def _shot(page: str) -> Image.Image:
    """What a browser without a window shows of a page."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise StaleError(f"the parts of a report need a browser: {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as folder:
        path, shot = Path(folder) / "page.html", Path(folder) / "page.png"
        path.write_text(page, encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"]
        options += [f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},1400"]
        command = [browser, *options, f"--screenshot={shot}", path.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        with Image.open(shot) as picture:
            return picture.convert("RGB")


def _trimmed(picture: Image.Image, margin: int = 16) -> Image.Image:
    """A picture without the empty space around what it shows."""
    empty = Image.new("RGB", picture.size, picture.getpixel((0, picture.height - 1)))
    box = ImageChops.difference(picture, empty).getbbox()
    if box is None:
        raise StaleError("a part of the report is empty; docs/hacking_pictures.py names its parts")
    left, top, right, bottom = box
    width, height = picture.size
    return picture.crop(
        (
            max(left - margin, 0),
            max(top - margin, 0),
            min(right + margin, width),
            min(bottom + margin, height),
        )
    )


def main() -> None:
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", action="store_true", help="the parts of a report, too")
    arguments = parser.parse_args()
    try:
        samples()
        curves()
        if arguments.runs:
            report_parts()
    except StaleError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
