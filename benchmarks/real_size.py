"""Training at real size: samples per second, memory, and share of the card's own rate.

SD3.5-Medium at 512 x 512 and Wan2.1-1.3B at 81 frames of 480 x 832, with random weights from the
releases' configs and random texts: LoRA and all weights, DDRL and supervised fine-tuning on the
same data, as is and compiled. An iteration is the trainer's, rewards and decoding included.

On a GPU it writes benchmarks/results/real_size.json. Without one it prints what can be computed,
operations and memory, and writes real_size_analytic.json. `--tiny` runs small networks anywhere,
to test this script, and writes nothing.   python benchmarks/real_size.py
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.random_weights import (
    make_recipe,
    trainer_of,
    write_small_sd3,
    write_small_wan,
)
from benchmarks.record import write_result

from ddrl.jobs.plan import check_recipe, plan_recipe
from ddrl.models.adapter.blank import blank_condition
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.sketch import materialize
from ddrl.recipe import Plan, Recipe
from ddrl.training.forward import Forward

GIB = 2**30
TIMED = 3


@dataclass(frozen=True)
class Model:
    """A network and media of one size.

    Attributes:
        name: of the row.
        path: a release, or a folder of configs.
        size: height, width, frames.
        overrides: of the recipe.
    """

    name: str
    path: str
    size: tuple[int, int, int]
    overrides: tuple[str, ...]


REAL = (
    Model(
        "SD3.5-Medium 512",
        "stabilityai/stable-diffusion-3.5-medium",
        (512, 512, 1),
        ("rollout.prompts_per_step=2", "rollout.group_size=8", "run.micro_batch=8"),
    ),
    Model(
        "Wan2.1-1.3B 480p 81 frames",
        "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        (480, 832, 81),
        (
            *("rollout.prompts_per_step=1", "rollout.group_size=2", "run.micro_batch=1"),
            "model.gradient_checkpointing=true",
        ),
    ),
)


def tiny(folder: Path) -> tuple[Model, ...]:
    """Small networks of the same families."""
    write_small_sd3(folder / "sd3", width=64, layers=2)
    write_small_wan(folder / "wan", layers=2)
    few = ("rollout.prompts_per_step=1", "rollout.group_size=2")
    return (
        Model("tiny SD3 64", str(folder / "sd3"), (64, 64, 1), few),
        Model("tiny Wan 32 x 32, 5 frames", str(folder / "wan"), (32, 32, 5), few),
    )


@dataclass(frozen=True)
class Setting:
    """One row: what is trained, and how."""

    model: Model
    what: str
    method: str
    is_compiled: bool

    def recipe(self) -> Recipe:
        """The recipe of the row."""
        lora = "model.lora.rank=32" if self.what == "LoRA" else "model.dtype=float32"
        more = [*self.model.overrides, lora, f"model.compile={str(self.is_compiled).lower()}"]
        if self.method == "SFT":
            more += ["objective.policy=none", "objective.step_weight=velocity"]
        return make_recipe(self.model.path, self.model.size, more)


def settings(models: tuple[Model, ...], *, compiled: bool) -> Iterator[Setting]:
    """All rows."""
    for model in models:
        for what in ("LoRA", "all weights"):
            for method in ("DDRL", "SFT"):
                yield Setting(model, what, method, False)
                if compiled and what == "LoRA":
                    yield Setting(model, what, method, True)


def _forward(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401
    return int(sdpa_flop_count(q, k, v))  # type: ignore[no-untyped-call]


def _backward(grad: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401
    return int(sdpa_backward_flop_count(grad, q, k, v))  # type: ignore[no-untyped-call]


@lru_cache
def operations(setting: Setting) -> tuple[int, int]:
    """Floating-point operations of a sample's forward pass, and of forward with backward."""
    model, shape = check_recipe(setting.recipe())
    assert isinstance(model, DiffusersModel)
    forward = Forward(model, autocast=torch.bfloat16)
    aten = torch.ops.aten
    attention = {
        aten._scaled_dot_product_flash_attention_for_cpu: _forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
    }
    counts = []
    with materialize([model.transformer, *model.frozen_parts()]):
        condition = blank_condition(model, 1, shape)
        assert condition is not None
        for has_gradient in (False, True):
            with FlopCounterMode(display=False, custom_mapping=attention) as counter:
                with torch.set_grad_enabled(has_gradient):
                    x, t = torch.zeros(1, *shape), torch.full((1,), 0.5)
                    velocity = forward.plain(x, t, condition)
                if has_gradient:
                    torch.autograd.backward(velocity.square().sum())
            counts.append(counter.get_total_flops())
    return counts[0], counts[1]


def planned(setting: Setting) -> tuple[dict[str, Any], Plan, int]:
    """What a row says without being run, the plan, and the operations of an iteration."""
    recipe = setting.recipe()
    plan = plan_recipe(recipe)
    # Neither the method nor compiling changes the operations of a pass.
    forward, both = operations(replace(setting, method="SFT", is_compiled=False))
    passes = plan.passes
    total = forward * (passes.rollout + passes.reference) + both * (passes.policy + passes.data)
    memory = plan.memory
    row = {
        "model": setting.model.name,
        "trained": setting.what,
        "method": setting.method,
        "compiled": setting.is_compiled,
        "gradient_checkpointing": recipe.model.gradient_checkpointing,
        "micro_batch": recipe.run.micro_batch,
        "samples": plan.num_samples or plan.num_data_samples,
        "forward_tflop_per_sample": round(forward / 1e12, 3),
        "forward_backward_tflop_per_sample": round(both / 1e12, 3),
        "tflop_per_iteration": round(total / 1e12, 2),
        # Text encoders are not on the device here.
        "planned_gib": {n: round((b - memory.text_encoders) / GIB, 2) for n, b in memory.phases},
    }
    return row, plan, total


def matmul_rate() -> float:
    """Operations per second of a large bfloat16 matrix product on this card."""
    size = 8192
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(20):
        a @ b
    torch.cuda.synchronize()
    return 20 * 2 * size**3 / (time.perf_counter() - start)


def measured(setting: Setting) -> dict[str, float | str]:
    """Seconds per iteration and peak memory of a row, after one iteration that isn't counted."""
    try:
        return _timed(setting.recipe())
    except torch.cuda.OutOfMemoryError:
        return {"failed": "out of memory"}
    finally:  # what was trained is gone, and the next row finds the card empty
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _timed(recipe: Recipe) -> dict[str, float | str]:
    on_gpu = torch.cuda.is_available()
    trainer = trainer_of(recipe)
    trainer.iteration()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(TIMED):
        trainer.iteration()
    if on_gpu:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / TIMED
    peak = torch.cuda.max_memory_allocated() / GIB if on_gpu else 0.0
    return {"seconds_per_iteration": round(seconds, 4), "peak_gib": round(peak, 3)}


def main() -> None:
    """Measure, or compute where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="small networks, on any device")
    parser.add_argument("--no-compile", action="store_true", help="leave out compiled rows")
    arguments = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    runs = on_gpu or arguments.tiny
    rate = matmul_rate() if on_gpu else 0.0
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        models = tiny(Path(folder)) if arguments.tiny else REAL
        compiled = on_gpu and not arguments.no_compile
        for setting in settings(models, compiled=compiled):
            row, _, total = planned(setting)
            if runs:
                row |= measured(setting)
            if "seconds_per_iteration" in row:
                seconds = row["seconds_per_iteration"]
                row["samples_per_second"] = round(row["samples"] / seconds, 3)
                if rate:
                    row["share_of_matmul_rate"] = round(total / seconds / rate, 3)
            rows.append(row)
            print(row, flush=True)
    if arguments.tiny:
        return
    name = "real_size" if on_gpu else "real_size_analytic"
    write_result(
        name,
        {"matmul_tflops": round(rate / 1e12, 1), "rows": rows},
        script=__file__,
        files=["benchmarks/random_weights.py"],
    )


if __name__ == "__main__":
    main()
