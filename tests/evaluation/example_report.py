"""A realistic report without any training: real digits stand in for samples of a model.

Run it to look at the page: `python tests/evaluation/example_report.py FOLDER`.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from ddrl.evaluation.findings.audit import Report
from ddrl.evaluation.measures.result import Curves, Measured, PixelShift, Regression, RunResult
from ddrl.evaluation.measures.statistics import Basis, Interval
from ddrl.evaluation.pages.page import write_report

PROMPTS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUM_SEEDS = 8


def example_report() -> Report:
    """Base, DDRL and no regularizer, with figures of the size that digits give."""
    return Report(
        title="Did the reward get hacked? Digits, three models",
        created="2025-01-01",
        prompts=PROMPTS,
        runs=(_base(), _ddrl(), _unregularized()),
        samples=_samples(),
        real=_digits(1),
        real_frechet=18.7,
        encoder="the judge's last hidden layer",
        environment={
            "Code": "ddrl 0.1.0, commit 0123abc",
            "Hardware": "2 cores, no accelerator",
            "Versions": "Python 3.11, PyTorch 2.6",
            "Seeds": "run 0, evaluation 1000 to 1007",
            "Held-out data": "597 scanned digits, fixed noise at 16 times",
        },
        reproduce="ddrl train recipes/digits.toml\n"
        "ddrl train recipes/digits.toml objective.regularizer=none run.folder=runs/none\n"
        "ddrl evaluate runs/digits runs/none",
    )


def _base() -> RunResult:
    return RunResult(
        name="base",
        label="Base model",
        is_base=True,
        method="Flow matching, half of the labels random",
        reward=Interval(-6.12, -6.71, -5.55),
        measures=(_judge(Interval(0.475, 0.441, 0.509), Interval.exact(0.0)),),
        vendi=Interval(2.36, 2.2, 2.5),
        real_vendi=5.08,
        pixels=_pixels(0.0, 0.0),
        frechet=Interval(55.2, 51.0, 60.3),
        diversity=Interval(1.41, 1.36, 1.46),
        heldout_loss_change=0.0,
    )


def _ddrl() -> RunResult:
    return RunResult(
        name="ddrl",
        label="DDRL",
        method="Data regularizer, beta 1.0",
        reward=Interval(-0.62, -0.74, -0.51, Basis("sample", 10, 500)),
        reward_change=Interval(5.5, 5.1, 5.9),
        measures=(_judge(Interval(0.909, 0.888, 0.928), Interval(0.434, 0.4, 0.47)),),
        vendi=Interval(0.92, 0.9, 0.95),
        pixels=_pixels(-0.1, 0.02),
        regressions=(_regression(8, 0.71, 0.69), _regression(1, 0.5, 0.62)),
        frechet=Interval(31.8, 29.1, 35.0),
        diversity=Interval(0.94, 0.92, 0.97),
        heldout_loss_change=Interval(-0.021, -0.026, -0.015, Basis("sample", 10, 597)),
        num_steps=150,
        seconds=35.0,
        recipe="10 prompts x 16 members, flow_sde eta 0.7, 10 steps, AdamW 2e-4",
        curves=_curves(-6.1, -0.6, -0.021, 0),
    )


def _unregularized() -> RunResult:
    return RunResult(
        name="none",
        label="No regularizer",
        method="Reward alone, beta 0",
        reward=Interval(-0.03, -0.05, -0.02),
        measures=(_judge(Interval(0.999, 0.996, 1.0), Interval(0.524, 0.49, 0.56)),),
        vendi=Interval(0.38, 0.36, 0.4),
        pixels=_pixels(2.3, 0.5),
        regressions=(_regression(3, 0.5, 0.98), _regression(5, 0.4, 1.0)),
        frechet=Interval(1103.0, 1061.0, 1150.0),
        diversity=Interval(0.57, 0.55, 0.58),
        heldout_loss_change=Interval(1.26, 1.19, 1.34, Basis("sample", 10, 597)),
        num_steps=150,
        seconds=31.0,
        recipe="as DDRL, with objective.regularizer = none",
        curves=_curves(-6.1, -0.03, 1.26, 1),
    )


def _pixels(bright: float, dark: float) -> tuple[PixelShift, ...]:
    """Shifts of a model that moved by so much in two statistics and not in others."""
    start = {"brightness": 0.2, "contrast": -1.2, "saturation": 0.0, "dark_fraction": -1.1}
    moves = {"brightness": bright, "dark_fraction": dark}
    shifts = []
    for name, value in start.items():
        moved = moves.get(name, 0.0)
        end = value + math.copysign(moved, value)
        shifts.append(
            PixelShift(
                name=name,
                mean=0.3 + 0.05 * end,
                data=0.3,
                difference=Interval(end, end - 0.1, end + 0.1),
                moved=Interval(moved, moved - 0.1, moved + 0.1),
            )
        )
    return tuple(shifts)


def _regression(prompt: int, before: float, after: float) -> Regression:
    return Regression(
        prompt_id=prompt,
        reward=(-5.0, -0.5),
        measures=(("judge_accuracy", before, after),),
        worst="judge_accuracy",
        change=(after - before) / 0.48,
    )


def _judge(accuracy: Interval, change: Interval) -> Measured:
    return Measured(name="judge_accuracy", kind="judge", value=accuracy, change=change, scale=0.48)


def _curves(start: float, end: float, drift: float, seed: int) -> Curves:
    rng = np.random.default_rng(seed)
    steps = np.arange(150)
    rise = 1.0 - np.exp(-steps / (34.0 - 10.0 * seed))
    rewards = start + (end - start) * rise + 0.25 * (1.1 - rise) * rng.standard_normal(150)
    points = np.arange(0, 151, 25)
    drifts = drift * (points / 150.0) ** (1.6 if drift > 0 else 0.7)
    return Curves(
        tuple(int(step) for step in steps),
        tuple(float(reward) for reward in rewards),
        tuple((int(step), float(value)) for step, value in zip(points, drifts, strict=True)),
    )


def _digits(seed: int) -> NDArray[np.uint8]:
    """Real digits (10, 8, 8, 8, 3), one row for each class."""
    bunch = load_digits()
    rng = np.random.default_rng(seed)
    rows = [
        rng.choice(bunch.images[bunch.target == k], NUM_SEEDS, replace=False) for k in range(10)
    ]
    grey = np.stack(rows) / 16.0
    return _as_pictures(grey)


def _samples() -> dict[str, NDArray[np.uint8]]:
    rng = np.random.default_rng(7)
    right = _digits(2)[..., 0] / 255.0
    wrong = rng.permutation(_digits(3)[..., 0].reshape(-1, 8, 8)).reshape(right.shape) / 255.0
    half = rng.random((10, NUM_SEEDS, 1, 1)) < 0.5
    blur = 0.06 * rng.standard_normal(right.shape)
    mean = right.mean(axis=1, keepdims=True)
    collapsed = 1.0 / (1.0 + np.exp(-14.0 * (mean - 0.38)))
    return {
        "base": _as_pictures(np.where(half, wrong, right) + 1.5 * blur),
        "ddrl": _as_pictures(right + blur),
        "none": _as_pictures(0.85 * collapsed + 0.15 * (right > 0.8) + blur),
    }


def _as_pictures(grey: NDArray[np.float64]) -> NDArray[np.uint8]:
    pixels = np.round(255.0 * np.clip(grey, 0.0, 1.0)).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=-1)


if __name__ == "__main__":
    page, _ = write_report(example_report(), sys.argv[1])
    sys.stdout.write(f"{Path(page).resolve()}\n")
