"""Draw the pictures of docs/images. Each says in its metadata which results or runs it was made from.

python docs/figures.py                from the code and from committed results
python docs/figures.py --runs         from finished runs, too: words, clips and the demo's report
python docs/figures.py --runs words   of those from runs, this one alone
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

sys.path.insert(0, str(Path(__file__).resolve().parent))
import fronts_pictures
import run_pictures
import words_picture
from evidence import FRONTS
from labels import Line, label_lines
from results import ROOT, StaleError
from style import INK, PAPER, card, chart, colour, drawing, save

from ddrl.diffusion.kernels import make_kernel
from ddrl.diffusion.process import RectifiedFlow
from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.transition import Transitions
from ddrl.evaluation.pages.palette import MARKERS
from ddrl.jobs.plan import plan_recipe
from ddrl.recipe import load_recipe

DIGITS = ROOT / "recipes" / "digits.toml"
KERNELS = (("flow_sde", 0.7), ("dance_sde", 0.7), ("ddim", 1.0), ("cps", 0.7))
OF_RUNS = {
    "words": words_picture.words,
    "clips": run_pictures.clips,
    "report": run_pictures.report,
}
SHARED = ("path", "velocity", "geometric")  # step weights that both terms have


def effective_beta() -> Figure:
    """The weight W of a step per kernel, and the beta that a step has under some losses.

    Raises:
        StaleError: the shared step weights no longer give one and the same beta.
    """
    figure = card(460)
    figure.get_layout_engine().set(wspace=0.08)
    weights, betas = figure.subplots(1, 2)
    chart(weights, "t: noise at 1, data at 0", "W of a step, eq. (T3)")
    chart(betas, "t", "beta of a step, for beta = 1")
    look = {"markersize": 6, "markeredgecolor": PAPER, "markeredgewidth": 0.6, "linewidth": 1.6}
    for i, (name, eta) in enumerate(KERNELS):
        sampler = Transitions.build(make_kernel(name, eta=eta), RectifiedFlow(), time_grid(20))
        w = sampler.kl_weight
        trained = torch.isfinite(w) & (w > 0)
        times = sampler.times[:-1][trained].double().numpy()
        style = {"color": colour(i + 1), "marker": MARKERS[i], **look}
        weights.plot(times, w[trained], label=f"{name} {eta}", **style)
        if name == "flow_sde":
            plain = Line("plain velocity loss", times, 1 / w[trained].numpy(), colour(7))
    ours = Line("ddrl, any shared step weight", *_one_beta(), colour(1))
    betas.plot(plain.x, plain.y, color=plain.tone, marker=MARKERS[6], **look)
    betas.plot(ours.x, ours.y, color=ours.tone, linewidth=2.6)
    for one in (weights, betas):
        one.set_yscale("log")
        one.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        one.set_xticks([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
        one.set_xlim(1.04, -0.04)
    weights.legend(frameon=False, loc="upper left", labelcolor=INK, borderaxespad=0.2)
    betas.set_ylim(0.3, 900)
    label_lines(betas, [ours, plain])
    return figure


def _one_beta() -> tuple[np.ndarray, np.ndarray]:
    """Time and effective beta of each trained step, the same under each shared step weight."""
    found = []
    for name in SHARED:
        recipe = load_recipe(DIGITS, [f"objective.step_weight={name}", "rollout.steps=20"])
        steps = [step for step in plan_recipe(recipe).steps if step.is_trained]
        found.append(np.array([(step.t, step.effective_beta) for step in steps]).T)
    if not all(np.allclose(one, found[0], rtol=1e-9) for one in found):
        raise StaleError("the step weights that both terms share no longer give one beta")
    return found[0][0], found[0][1]


def main() -> None:
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", nargs="*", choices=OF_RUNS, metavar="NAME", help="from finished runs, too"
    )
    arguments = parser.parse_args()
    with drawing():
        source = {"code": "ddrl.diffusion and ddrl.jobs.plan"}
        save(effective_beta(), "effective_beta", source)
    for name in FRONTS:
        fronts_pictures.draw(name, alone=name == "compare_digits_fronts")
    if arguments.runs is None:
        return
    try:
        for name in arguments.runs or OF_RUNS:
            OF_RUNS[name]()
    except StaleError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
