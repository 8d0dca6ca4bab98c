"""The flow table of docs/evidence.md: distance to the known optimum, by setting.

Writes benchmarks/results/flow.json.
python benchmarks/flow_evidence.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.record import write_result  # noqa: E402
from tests.analytic.flow_testbed import (  # noqa: E402
    BETA,
    OTHER,
    LineModel,
    Setup,
    base_model,
    train,
    tv_to_tilt,
    with_objective,
)

from ddrl.objective.loss import Objective  # noqa: E402

REFERENCE = Objective(policy="reinforce", regularizer="reference", beta=BETA)


def measure(
    setting: str, base: LineModel, setup: Setup, *, seeds: Sequence[int], reference: bool = False
) -> dict[str, object]:
    """Train with every seed, and return the distances and the mean seconds."""
    distances, start = [], time.perf_counter()
    for seed in seeds:
        seeded = replace(setup, seed=seed)
        model = train(base, seeded, reference=base if reference else None)
        distances.append(round(tv_to_tilt(model, seeded), 4))
    seconds = (time.perf_counter() - start) / len(seeds)
    print(f"{setting:60s} {distances}  {seconds:.0f} s", flush=True)
    return {"setting": setting, "tv": distances, "seconds": round(seconds, 1)}


def main() -> None:
    """Measure every row."""
    torch.set_num_threads(1)
    base, other, short = base_model(), base_model(OTHER), Setup()
    longer = Setup(num_steps=20, num_samples=512, iterations=3000)
    reverse = Setup(objective=REFERENCE)
    rows: list[dict[str, object]] = [
        {"setting": "before training", "tv": [round(tv_to_tilt(base, short), 4)], "seconds": 0},
        measure("DDRL, 10 steps, 128 samples, 800 iterations", base, short, seeds=(0, 1, 2)),
        measure("DDRL, 20 steps, 512 samples, 3000 iterations", base, longer, seeds=(0,)),
    ]
    for name in ("velocity", "geometric"):
        setup = with_objective(short, step_weight=name)
        rows.append(measure(f"DDRL, step weight `{name}`", base, setup, seeds=(0, 1)))
    for coefficient in (1.0, 3.0, 10.0):
        rows.append(
            measure(
                f"plain velocity loss x {coefficient:g}, policy term unweighted",
                base,
                replace(short, plain_velocity_coefficient=coefficient),
                seeds=(0,),
            )
        )
    in_return = with_objective(reverse, kl_in_return=True)
    rows += [
        measure("reverse KL per step (Flow-GRPO)", base, reverse, seeds=(0, 1), reference=True),
        measure(
            "reverse KL, charged in the return too", base, in_return, seeds=(0, 1), reference=True
        ),
        measure("no regularizer", base, with_objective(short, regularizer="none"), seeds=(0,)),
        measure("from another base: DDRL", other, short, seeds=(0, 1)),
        measure("from another base: reverse KL", other, reverse, seeds=(0, 1), reference=True),
    ]
    testbed = "tests/analytic/flow_testbed.py"
    write_result("flow", {"results": rows}, script=__file__, files=[testbed], seeds=(0, 1, 2))


if __name__ == "__main__":
    main()
