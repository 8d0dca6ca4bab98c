"""The contact sheet of docs/evidence.md: clips that begin with a given frame, of every method.

Reads the runs of `ddrl compare recipes/compare/moving_digits_image.toml`, seed 0, and writes
docs/images/moving_digits_image.png.   python docs/clips.py
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ddrl.builders.runs import LoadedRun, load_run
from ddrl.evaluation.generate import generate

DOCS = Path(__file__).resolve().parent
RUNS = Path("runs/compare/moving-digits-image")
IMAGE = DOCS / "images" / "moving_digits_image.png"
METHODS = {
    "DDRL": "ddrl-seed0",
    "No regularizer": "no-regularizer-seed0",
    "Fine-tuning": "supervised-fine-tuning-seed0",
    "Reverse KL": "reverse-kl-seed0",
}
CLIPS = (0, 1, 2)  # of the held-out ones


def clips_of(run: LoadedRun, *, of_base: bool = False) -> NDArray[np.float64]:
    """One sample for each of the first held-out clips, (N, T, H, W) in [0, 1]."""
    section, held = run.recipe.evaluation, run.corpus.heldout
    with run.as_base() if of_base else nullcontext():
        samples = generate(
            run.forward,
            held.captions[: max(CLIPS) + 1],
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


def main() -> None:
    """Sample, and draw."""
    torch.set_num_threads(1)
    runs = {name: load_run(RUNS / folder) for name, folder in METHODS.items()}
    first = next(iter(runs.values()))
    real = first.corpus.real.media[: max(CLIPS) + 1].mean(2).double().numpy()
    rows = {"Real": real, "Base": clips_of(first, of_base=True)}
    rows |= {name: clips_of(run) for name, run in runs.items()}
    captions = [first.corpus.heldout.captions[clip] for clip in CLIPS]
    frames, height, width = real.shape[1:]
    figure = Figure(figsize=(12.5, 0.55 * len(rows) + 0.5), layout="constrained", dpi=110)
    grid = figure.subplots(len(rows), len(CLIPS), squeeze=False)
    for line, (name, media) in zip(grid, rows.items(), strict=True):
        for place, (axes, clip) in enumerate(zip(line, CLIPS, strict=True)):
            strip = np.ones((height, frames * (width + 1) - 1))
            for frame in range(frames):
                left = frame * (width + 1)
                strip[:, left : left + width] = media[clip, frame]
            axes.imshow(strip, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if axes is line[0]:
                axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
            if axes is grid[0, place]:
                axes.set_title(captions[place], fontsize=9)
    figure.savefig(IMAGE)


if __name__ == "__main__":
    main()
