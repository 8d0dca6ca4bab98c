"""The pictures of docs/images that are made from finished runs: clips, and the report of the demo."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageChops, PngImagePlugin
from results import ROOT, StaleError
from style import (
    IMAGES,
    MUTED,
    PADDING,
    POINT,
    SCALE,
    WIDTH,
    as_card,
    card,
    drawing,
    picture_at,
    save,
    text_at,
)

from ddrl.evaluation.measures.generate import generate
from ddrl.evaluation.pages.palette import LIGHT
from ddrl.runs.loaded import LoadedRun, load_run
from ddrl.runs.provenance import describe_result

CLIPS = ROOT / "runs/compare/moving-digits-image"
DEMO = ROOT / "runs/demo"
METHODS = {
    "DDRL": "ddrl-seed0",
    "No regularizer": "no-regularizer-seed0",
    "Fine-tuning": "supervised-fine-tuning-seed0",
    "Reverse KL": "reverse-kl-seed0",
}
SHOWN = (0, 1)  # of the held-out clips
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
PAGE_WIDTH = WIDTH
# The picture is of verdicts and samples; the page has more, and more prompts.
CROPPED = """
section, footer, details, .lead, .method { display: none !important; }
section:has(.grids) { display: block !important; margin-top: 26px; }
header.top { padding-top: 24px; }
.grids .row:nth-of-type(n + 6) { display: none; }
"""


def needed(path: Path, command: str) -> Path:
    """A path that is there.

    Raises:
        StaleError: it is not.
    """
    if not path.exists():
        raise StaleError(f"{path.relative_to(ROOT)} is not there; `{command}` makes it")
    return path


def source_of(result: str, runs: Iterable[Path]) -> dict[str, Any]:
    """What a picture says of the runs that it was made from: they are those of a result."""
    trained = describe_result("", runs=runs)["trained_at"]
    return {"runs": {f"benchmarks/results/{result}.json": trained}}


def clips_of(run: LoadedRun, *, of_base: bool = False) -> NDArray[np.float64]:
    """One sample for each of the first held-out clips, (N, T, H, W) in [0, 1]."""
    section, held = run.recipe.evaluation, run.corpus.heldout
    with run.as_base() if of_base else nullcontext():
        samples = generate(
            run.forward,
            held.captions[: max(SHOWN) + 1],
            condition=held.condition,
            samples_per_prompt=1,
            latent_shape=run.latent_shape,
            seed=section.seed,
            num_steps=section.steps,
            solver=section.solver,
            device=run.device,
        )
    grey: NDArray[np.float64] = samples.media.mean(2).double().clamp(0, 1).numpy()
    return grey


def clips() -> None:
    """Clips that begin with a given frame, of every method."""
    needed(CLIPS, "ddrl compare recipes/compare/moving_digits_image.toml --seeds 0")
    torch.set_num_threads(1)
    runs = {name: load_run(CLIPS / folder) for name, folder in METHODS.items()}
    first = next(iter(runs.values()))
    real = first.corpus.real.media[: max(SHOWN) + 1].mean(2).double().numpy()
    rows = {"Real": real, "Base": clips_of(first, of_base=True)}
    rows |= {name: clips_of(run) for name, run in runs.items()}
    captions = [first.corpus.heldout.captions[clip] for clip in SHOWN]
    with drawing():
        figure = clips_card(captions, {name: media[list(SHOWN)] for name, media in rows.items()})
        source = source_of("compare_moving_digits_image", CLIPS.glob("*-seed*"))
        save(figure, "moving_digits_image", source)


def clips_card(captions: Sequence[str], rows: Mapping[str, NDArray[np.float64]]) -> Figure:
    """A row for each model, a column for each clip, its frames side by side.

    Args:
        captions: one for each clip.
        rows: name -> grey clips in [0, 1], shape (len(captions), T, H, W).
    """
    names, gap, top = 132, 14, PADDING + 32
    width = (WIDTH - 2 * PADDING - names - gap * (len(captions) - 1)) / len(captions)
    frames, height = next(iter(rows.values())).shape[1:3]
    tall = width * height / (frames * (height + 1) - 1)
    row = tall + 9
    figure = card(round(top + row * len(rows) - 9 + PADDING), by_hand=True)
    for place, caption in enumerate(captions):
        left = PADDING + names + place * (width + gap)
        text_at(figure, caption, left, PADDING + 12, color=MUTED)
        for line, (name, media) in enumerate(rows.items()):
            y = top + line * row
            picture_at(figure, _strip(media[place]), (left, y, width))
            if place == 0:
                text_at(figure, name, PADDING, y + tall / 2, fontsize=16 * POINT)
    return figure


def _strip(clip: NDArray[np.float64]) -> NDArray[np.float64]:
    """A clip's frames side by side, with a white line between them."""
    frames, height, width = clip.shape
    strip = np.ones((height, frames * (width + 1) - 1))
    for frame in range(frames):
        strip[:, frame * (width + 1) :][:, :width] = clip[frame]
    return strip


def report() -> None:
    """The README's picture: the demo's report, in a browser without a window.

    Raises:
        StaleError: there is no report or no browser, or the report doesn't say what the README
            says of it.
    """
    page = needed(DEMO / "report.html", "make demo")
    runs = json.loads((DEMO / "report.json").read_text(encoding="utf-8"))["runs"]
    words = {run["label"]: run["verdict"]["status"] for run in runs.values()}
    if (words.get("DDRL"), words.get("No regularizer")) != ("clean", "hacked"):
        raise StaleError(
            f"README.md says that DDRL is clean and no regularizer hacked, the demo {words}"
        )
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise StaleError(f"docs/images/report.png needs a browser: {', '.join(BROWSERS)}")
    source = source_of("digits", [ROOT / "runs/digits", ROOT / "runs/digits-no-regularizer"])
    said = PngImagePlugin.PngInfo()
    said.add_text("Source", json.dumps(source))
    picture = as_card(photograph(browser, page.read_text(encoding="utf-8")))
    picture.save(IMAGES / "report.png", pnginfo=said, optimize=True)


def photograph(browser: str, page: str) -> Image.Image:
    """A report's verdicts and samples as its page shows them, cut where they end."""
    page = page.replace("</head>", f"<style>{CROPPED}</style></head>", 1)
    with tempfile.TemporaryDirectory() as folder:
        shot, shown = Path(folder) / "report.png", Path(folder) / "report.html"
        shown.write_text(page, encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"]
        options += [f"--user-data-dir={folder}/profile", f"--window-size={PAGE_WIDTH},3000"]
        options += [f"--force-device-scale-factor={SCALE}", f"--screenshot={shot}"]
        command = [browser, *options, shown.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        with Image.open(shot) as picture:
            whole = picture.convert("RGB")
    empty = Image.new("RGB", whole.size, LIGHT["page"])
    edges = ImageChops.difference(whole, empty).getbbox()
    if edges is None:
        raise StaleError("the browser shows an empty page")
    return whole.crop((0, 0, whole.width, edges[3] + 20 * SCALE))
