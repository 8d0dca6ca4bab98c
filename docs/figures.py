"""Draw the figures of docs/ from the code and from committed results.

python docs/figures.py
python docs/figures.py runs/compare/words   samples of words, too, of runs that are there
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ddrl.builders.planning import plan_recipe
from ddrl.builders.runs import LoadedRun, load_run
from ddrl.diffusion.kernels import make_kernel
from ddrl.diffusion.process import RectifiedFlow
from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.transition import Transitions
from ddrl.evaluation.generate import generate
from ddrl.recipe import load_recipe

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS.parent / "benchmarks" / "results"
DIGITS = DOCS.parent / "recipes" / "digits.toml"
COLOURS = ("#0072b2", "#e07b00", "#b0568f", "#009e73", "#3f3fa8", "#8a6d00", "#c2185b", "#7a8796")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")


def new_figure(columns: int) -> tuple[Figure, list[Axes]]:
    """A row of plain charts."""
    figure = Figure(figsize=(4.4 * columns, 3.4), layout="constrained", dpi=110)
    axes = [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(color="#e1e6ec", linewidth=0.8)
        one.set_axisbelow(True)
    return figure, axes


def effective_beta() -> None:
    """The weight W of a step per kernel, and the beta that a step has under some losses."""
    figure, (weights, betas) = new_figure(2)
    kernels = [("flow_sde", 0.7), ("dance_sde", 0.7), ("ddim", 1.0), ("cps", 0.7)]
    for i, (name, eta) in enumerate(kernels):
        sampler = Transitions.build(make_kernel(name, eta=eta), RectifiedFlow(), time_grid(20))
        w = sampler.kl_weight
        trained = torch.isfinite(w) & (w > 0)
        look = {"color": COLOURS[i], "marker": MARKERS[i], "label": f"{name} {eta}"}
        weights.plot(sampler.times[:-1][trained], w[trained], **look)
        if name == "flow_sde":
            look = {
                "color": COLOURS[6],
                "marker": MARKERS[6],
                "label": "plain velocity loss x 1",
            }
            betas.plot(sampler.times[:-1][trained], 1 / w[trained], **look)
    for style, name in zip(("-", "--", ":"), ("path", "velocity", "geometric"), strict=True):
        recipe = load_recipe(DIGITS, [f"objective.step_weight={name}", "rollout.steps=20"])
        steps = [step for step in plan_recipe(recipe).steps if step.is_trained]
        look = {
            "linestyle": style,
            "color": COLOURS[0],
            "label": f"ddrl, step_weight {name}",
        }
        betas.plot(
            [step.t for step in steps], [step.effective_beta for step in steps], linewidth=2, **look
        )
    weights.set(xlabel="t", title="W of a step, eq. (T3)", yscale="log")
    betas.set(xlabel="t", title="beta of a step, for beta = 1", yscale="log")
    for one in (weights, betas):
        one.invert_xaxis()
        one.legend(fontsize=8, frameon=False)
    figure.savefig(DOCS / "images" / "effective_beta.png")


def fronts(name: str, limit: float = 0.10) -> None:
    """Reward against what it cost, of a committed comparison."""
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    keys = [
        ("heldout_loss_change", "held-out loss change, %"),
        ("frechet", "Fréchet distance"),
        ("diversity", "diversity, real data is 1"),
    ]
    figure, axes = new_figure(3)
    variants = list(dict.fromkeys(cell["variant"] for cell in result["cells"]))
    for one, (key, label) in zip(axes, keys, strict=True):
        scale = 100 if key == "heldout_loss_change" else 1
        for i, variant in enumerate(variants):
            cells = [cell for cell in result["cells"] if cell["variant"] == variant]
            points = [
                (scale * cell["figures"][key]["mean"][0], cell["figures"]["reward"]["mean"][0])
                for cell in cells
                if key in cell["figures"]
            ]
            x, y = np.array(sorted(points, key=lambda point: point[1])).T
            style = "-" if len(x) > 1 else "none"
            one.plot(
                x,
                y,
                color=COLOURS[i],
                marker=MARKERS[i],
                linestyle=style,
                label=variant,
                markersize=5,
            )
        base = result["base"]["figures"]
        one.plot(scale * base[key]["mean"][0], base["reward"]["mean"][0], "k*", markersize=10)
        one.set_xlabel(label)
    axes[0].axvline(100 * limit, color="#b3291f", linestyle="--", linewidth=1)
    axes[0].set_xscale("symlog", linthresh=10)
    axes[1].set_xscale("log")
    axes[0].set_ylabel("reward")
    axes[2].invert_xaxis()
    axes[2].legend(fontsize=7.5, frameon=False, loc="lower right")
    figure.savefig(DOCS / "images" / f"{name}.png")


def word_samples(folder: Path) -> None:
    """Data, and samples of the base and of two methods from the same noise, of recipes/compare/words.toml."""
    runs = {name: load_run(folder / f"{name}-seed0") for name in ("ddrl", "no-regularizer")}
    first = runs["ddrl"]
    held, section = first.corpus.heldout, first.recipe.evaluation
    chosen = list(range(0, len(held.captions), 1 + len(held.captions) // 8))
    condition = held.condition[torch.tensor(chosen)]

    def draw(run: LoadedRun) -> torch.Tensor:
        samples = generate(
            run.forward,
            tuple(held.captions[i] for i in chosen),
            condition=condition,
            samples_per_prompt=2,
            latent_shape=run.latent_shape,
            seed=section.seed,
            num_steps=section.steps,
            solver=section.solver,
        )
        return samples.media

    real = first.corpus.real
    pictures = {
        "Data": torch.cat([real.media[(real.caption_id == i).nonzero()[:2, 0]] for i in chosen])
    }
    with first.as_base():
        pictures["Base"] = draw(first)
    pictures["DDRL"] = draw(first)
    pictures["No regularizer"] = draw(runs["no-regularizer"])
    figure = Figure(figsize=(11, 4.2), layout="constrained", dpi=90)
    axes = figure.subplots(2, 2)
    for one, (name, media) in zip(axes.flat, pictures.items(), strict=True):
        rows = media.reshape(4, 4, 3, 32, 96).permute(0, 3, 1, 4, 2).reshape(128, 384, 3)
        one.imshow(rows.numpy(), interpolation="nearest")
        one.set_title(name, fontsize=10)
        one.axis("off")
    figure.savefig(DOCS / "images" / "words.png")


def main() -> None:
    """Draw all; samples of words where their comparison's folder is given."""
    effective_beta()
    for folder in sys.argv[1:]:
        word_samples(Path(folder))
    for path in sorted(RESULTS.glob("compare_*.json")):
        fronts(path.stem)


if __name__ == "__main__":
    main()
