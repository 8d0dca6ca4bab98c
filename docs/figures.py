"""Draw the pictures of docs/images. Each says in its metadata which results or runs it was made from.

python docs/figures.py          from the code and from committed results
python docs/figures.py --runs   from finished runs, too: samples, clips, and the report of the demo
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent))
import run_pictures
from evidence import FRONTS
from results import RESULTS, ROOT, StaleError

from ddrl.diffusion.kernels import make_kernel
from ddrl.diffusion.process import RectifiedFlow
from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.transition import Transitions
from ddrl.jobs.plan import plan_recipe
from ddrl.recipe import load_recipe

IMAGES = ROOT / "docs" / "images"
DIGITS = ROOT / "recipes" / "digits.toml"
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
    source = json.dumps({"code": "ddrl.diffusion and ddrl.jobs.plan"})
    figure.savefig(IMAGES / "effective_beta.png", metadata={"Source": source})


def fronts(name: str, limit: float = 0.10) -> None:
    """Reward against what it cost, of a committed comparison."""
    path = RESULTS / f"{name}.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
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
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    source = json.dumps({"results": {path.relative_to(ROOT).as_posix(): digest}})
    figure.savefig(IMAGES / f"{name}.png", metadata={"Source": source})


def main() -> None:
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", action="store_true", help="from finished runs, too")
    arguments = parser.parse_args()
    effective_beta()
    for name in FRONTS:
        fronts(name)
    if arguments.runs:
        try:
            run_pictures.draw()
        except StaleError as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
