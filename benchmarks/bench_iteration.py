"""How much of an iteration is the model itself: the digits job against its bare passes.

Bare passes: the same number of forwards without gradient, and of forwards with backward, on the
same shapes, and nothing else. Both are timed alternately in one process, so that a noisy machine
hits both. Prints a table and writes benchmarks/results/iteration.json.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.record import ROOT, write_result

from ddrl.jobs.train.trainer import Job, build_job
from ddrl.recipe import load_recipe

ROUNDS = 41


def bare_passes(job: Job) -> Callable[[], None]:
    """The model's own work in one iteration, without anything around it."""
    trainer, sampler = job.trainer, job.trainer.sampler
    model, group_size = trainer.forward.model, trainer.collector.group_size
    size = group_size * job.recipe.rollout.prompts_per_step
    part = size // trainer.num_updates
    label = torch.arange(10).repeat_interleave(group_size)
    condition = trainer.collector.pool.condition[label]
    x, t = torch.randn(size, *sampler.latent_shape), torch.rand(size)
    terms = 2 if trainer.learner.objective.regularizer == "data" else 1
    fold = trainer.learner.gradients[0].steps_per_pass
    num_passes = terms * len(sampler.trained) // fold
    rows = torch.arange(part).repeat(fold)
    x_part, t_part, condition_part = x[rows], t[rows], condition[rows]

    def run() -> None:
        with torch.no_grad():
            for _ in range(len(sampler.transitions)):
                model.predict(x, t, condition)
        for _ in range(trainer.num_updates):
            for _ in range(num_passes):
                velocity = model.predict(x_part, t_part, condition_part)
                torch.autograd.backward(velocity, torch.ones_like(velocity))
            for parameter in model.transformer.parameters():
                parameter.grad = None

    return run


def measure(overrides: list[str]) -> dict[str, float]:
    """Median seconds of an iteration and of its bare passes, and the median of their ratios."""
    recipe = load_recipe(ROOT / "recipes/digits.toml", ["evaluation.every=0", *overrides])
    job = build_job(recipe)
    bare = bare_passes(job)
    for _ in range(2):
        job.trainer.iteration()
        bare()
    iterations, raw = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        job.trainer.iteration()
        middle = time.perf_counter()
        bare()
        iterations.append(middle - start)
        raw.append(time.perf_counter() - middle)
    ratios = [a / b for a, b in zip(iterations, raw, strict=True)]
    return {
        "iteration_s": round(statistics.median(iterations), 4),
        "bare_passes_s": round(statistics.median(raw), 4),
        "ratio": round(statistics.median(ratios), 3),
    }


def main() -> None:
    """Measure DDRL and no regularizer."""
    torch.set_num_threads(1)
    results = {
        "ddrl": measure([]),
        "no regularizer": measure(["objective.regularizer=none"]),
    }
    for name, row in results.items():
        print(
            f"{name:16s} iteration {row['iteration_s']:.3f} s   bare passes "
            f"{row['bare_passes_s']:.3f} s   ratio {row['ratio']:.3f}"
        )
    values = {"rounds": ROUNDS, "results": results}
    write_result("iteration", values, script=__file__, files=["recipes/digits.toml"])


if __name__ == "__main__":
    main()
