"""The pictures of docs/images that are made from finished runs: samples, clips, a report."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from results import ROOT, StaleError
from torch import Tensor

from ddrl.evaluation.measures.generate import generate
from ddrl.runs.loaded import LoadedRun, load_run
from ddrl.runs.provenance import describe_result

IMAGES = ROOT / "docs" / "images"
WORDS = ROOT / "runs/compare/words"
CLIPS = ROOT / "runs/compare/moving-digits-image"
DEMO = ROOT / "runs/demo"
METHODS = {
    "DDRL": "ddrl-seed0",
    "No regularizer": "no-regularizer-seed0",
    "Fine-tuning": "supervised-fine-tuning-seed0",
    "Reverse KL": "reverse-kl-seed0",
}
SHOWN = (0, 1, 2)  # of the held-out clips
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
PAGE_SIZE = (1160, 1420)  # as wide as the page needs for columns side by side


def draw() -> None:
    """All of them."""
    words()
    clips()
    report()


def needed(path: Path, command: str) -> Path:
    """A path that is there.

    Raises:
        StaleError: it is not.
    """
    if not path.exists():
        raise StaleError(f"{path.relative_to(ROOT)} is not there; `{command}` makes it")
    return path


def source_of(result: str, runs: Iterable[Path]) -> str:
    """What a picture says of the runs that it was made from: they are those of a result."""
    trained = describe_result("", runs=runs)["trained_at"]
    return json.dumps({"runs": {f"benchmarks/results/{result}.json": trained}})


def words() -> None:
    """Data, and samples of the base and of two methods from the same noise."""
    needed(WORDS, "ddrl compare recipes/compare/words.toml")
    runs = {name: load_run(WORDS / f"{name}-seed0") for name in ("ddrl", "no-regularizer")}
    first = runs["ddrl"]
    held, section = first.corpus.heldout, first.recipe.evaluation
    chosen = list(range(0, len(held.captions), 1 + len(held.captions) // 8))
    condition = held.condition[torch.tensor(chosen)]

    def samples(run: LoadedRun) -> Tensor:
        made = generate(
            run.forward,
            tuple(held.captions[i] for i in chosen),
            condition=condition,
            samples_per_prompt=2,
            latent_shape=run.latent_shape,
            seed=section.seed,
            num_steps=section.steps,
            solver=section.solver,
        )
        return made.media

    real = first.corpus.real
    pictures = {
        "Data": torch.cat([real.media[(real.caption_id == i).nonzero()[:2, 0]] for i in chosen])
    }
    with first.as_base():
        pictures["Base"] = samples(first)
    pictures["DDRL"] = samples(first)
    pictures["No regularizer"] = samples(runs["no-regularizer"])
    figure = Figure(figsize=(11, 4.2), layout="constrained", dpi=90)
    axes = figure.subplots(2, 2)
    for one, (name, media) in zip(axes.flat, pictures.items(), strict=True):
        rows = media.reshape(4, 4, 3, 32, 96).permute(0, 3, 1, 4, 2).reshape(128, 384, 3)
        one.imshow(rows.numpy(), interpolation="nearest")
        one.set_title(name, fontsize=10)
        one.axis("off")
    source = source_of("compare_words", WORDS.glob("*-seed*"))
    figure.savefig(IMAGES / "words.png", metadata={"Source": source})


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
    figure = Figure(figsize=(12.5, 0.55 * len(rows) + 0.5), layout="constrained", dpi=110)
    grid = figure.subplots(len(rows), len(SHOWN), squeeze=False)
    for line, (name, media) in zip(grid, rows.items(), strict=True):
        for place, (axes, clip) in enumerate(zip(line, SHOWN, strict=True)):
            axes.imshow(_strip(media[clip]), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if axes is line[0]:
                axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
            if axes is grid[0, place]:
                axes.set_title(captions[place], fontsize=9)
    source = source_of("compare_moving_digits_image", CLIPS.glob("*-seed*"))
    figure.savefig(IMAGES / "moving_digits_image.png", metadata={"Source": source})


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
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "report.png"
        size = ",".join(map(str, PAGE_SIZE))
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"]
        options += [f"--user-data-dir={folder}/profile", f"--window-size={size}"]
        command = [browser, *options, f"--screenshot={shot}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        said = PngImagePlugin.PngInfo()
        trained = [ROOT / "runs/digits", ROOT / "runs/digits-no-regularizer"]
        said.add_text("Source", source_of("digits", trained))
        with Image.open(shot) as picture:
            picture.convert("RGB").save(IMAGES / "report.png", pnginfo=said, optimize=True)
