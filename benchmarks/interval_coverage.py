"""How often the audit's intervals hold what they should, and how often nothing gives a sign.

The table of docs/evaluation.md: nominal 95 % intervals of simulated samples, whose law is known.
About three minutes on one core. Writes benchmarks/results/interval_coverage.json.
python benchmarks/interval_coverage.py
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.record import write_result
from tests.jobs.hand_bench import HandBench, find, make_bench

from ddrl.evaluation.findings.verdict import judge_run
from ddrl.evaluation.measures.fidelity import Reference
from ddrl.evaluation.measures.statistics import Interval, Unit, jackknife_interval, mean_interval
from ddrl.jobs.evaluate.measure import Found, measure_model

Numbers = NDArray[np.float64]
WITHIN = 0.3
"""Standard deviation of samples of one prompt; that of prompts is 1."""


def law(
    rng: np.random.Generator, prompts: int, each: int, *, within: float = WITHIN, width: int = 1
) -> Numbers:
    """Samples (prompts * each, width) of prompts that are drawn too."""
    effect = rng.standard_normal((prompts, 1, width))
    samples: Numbers = effect + within * rng.standard_normal((prompts, each, width))
    return samples.reshape(-1, width)


def share(name: str, intervals: Iterable[Interval], truth: float | None) -> dict[str, object]:
    """How many of the intervals hold the truth, or their own values' mean where it is unknown."""
    found = list(intervals)
    wanted = float(np.mean([one.value for one in found])) if truth is None else truth
    covered = float(np.mean([one.low <= wanted <= one.high for one in found]))
    fell = float(np.mean([one.high < wanted for one in found]))
    row = {
        "figure": name,
        "repetitions": len(found),
        "covered": round(covered, 3),
        "all_below": round(fell, 3),
    }
    print(f"{name:70s} {covered:.3f} {fell:.3f}", flush=True)
    return row


def means(prompts: int, each: int, *, unit: Unit = "prompt", num: int = 2000) -> dict[str, object]:
    """The mean of samples of prompts that are drawn: what a paired change of nothing is as well."""
    rng, ids = np.random.default_rng(0), np.repeat(np.arange(prompts), each)
    name = f"mean, {prompts} prompts x {each} samples, over {unit}s"
    found = (mean_interval(law(rng, prompts, each)[:, 0], ids, unit=unit) for _ in range(num))
    return share(name, found, 0.0)


def fixed(prompts: int, each: int, *, num: int = 2000) -> dict[str, object]:
    """The mean over prompts that stay the same."""
    rng, ids = np.random.default_rng(0), np.repeat(np.arange(prompts), each)
    effect = rng.standard_normal((prompts, 1))

    def one() -> Interval:
        values = (effect + WITHIN * rng.standard_normal((prompts, each))).ravel()
        return mean_interval(values, ids, unit="sample")

    name = f"mean, the only {prompts} prompts x {each} samples, over samples"
    return share(name, (one() for _ in range(num)), float(effect.mean()))


def distance(prompts: int, each: int, *, num: int = 300) -> dict[str, object]:
    """The Fréchet distance that so many samples have on average, in eight features."""
    rng, ids = np.random.default_rng(0), np.repeat(np.arange(prompts), each)
    reference = Reference(law(rng, 400, 1, width=8) + 0.5)

    def one() -> Interval:
        x = law(rng, prompts, each, width=8)
        return jackknife_interval(lambda rows: reference.distance(x[rows]), ids, unit="prompt")

    name = f"Fréchet distance, {prompts} prompts x {each} samples, over prompts"
    return share(name, (one() for _ in range(num)), None)


def bench_and_draw(
    rng: np.random.Generator, prompts: int, each: int, real: int, spread: float
) -> tuple[HandBench, Callable[[], Found]]:
    """Data and samples of new prompts; samples have a share of the data's spread within prompts."""
    effect, quality = rng.standard_normal((prompts, 1, 8)), rng.standard_normal((prompts, 1))
    ids, real_id = np.repeat(np.arange(prompts), each), np.repeat(np.arange(prompts), real)

    def draw(num: int, size: float) -> Numbers:
        samples: Numbers = effect + size * rng.standard_normal((prompts, num, 8))
        return samples.reshape(-1, 8)

    def found() -> Found:
        score = (quality + WITHIN * rng.standard_normal((prompts, each))).ravel()
        other = (quality + WITHIN * rng.standard_normal((prompts, each))).ravel()
        losses = 1 + 0.01 * rng.standard_normal(prompts * real)
        return find(draw(each, spread), ids, reward=score, losses=losses, measures={"m": other})

    return make_bench(draw(real, 1.0), real_id), found


def variety(prompts: int, each: int, real: int, *, num: int = 200) -> list[dict[str, object]]:
    """The ratios of a perfect model: 1."""
    rng, found = np.random.default_rng(0), []
    for _ in range(num):
        bench, draw = bench_and_draw(rng, prompts, each, real, 1.0)
        run = draw()
        found.append(measure_model(bench, run, run, name="run"))
    words = f"{prompts} prompts x {each} samples, {real} real each, over prompts"
    return [
        share(f"diversity, {words}", (one.diversity for one in found), 1.0),
        share(f"Vendi score, {words}", (one.vendi for one in found), 1.0),
    ]


def signs(
    prompts: int, each: int, real: int, spread: float, *, num: int = 400
) -> dict[str, object]:
    """How often a base and a run of one law give a sign, through the whole verdict."""
    rng, count = np.random.default_rng(1), 0
    for _ in range(num):
        bench, draw = bench_and_draw(rng, prompts, each, real, spread)
        base, run = draw(), draw()
        before = measure_model(bench, base, base, name="base", is_base=True)
        count += bool(judge_run(measure_model(bench, run, base, name="run"), before).reasons)
    name = f"{prompts} prompts x {each} samples, {real} real each, spread {spread:g} of data"
    print(f"signs: {name:63s} {count / num:.3f}", flush=True)
    return {"setting": name, "repetitions": num, "signs": round(count / num, 3)}


def main() -> None:
    """Measure every row."""
    rows = [
        means(10, 16),
        means(40, 8),
        means(5, 16),
        means(64, 50, num=500),
        fixed(10, 16),
        means(10, 16, unit="sample"),
        distance(10, 16),
        distance(40, 8),
        *variety(10, 16, 1),
        *variety(40, 8, 1, num=100),
        *variety(10, 16, 6),
    ]
    verdicts = [signs(10, 16, 1, 1.0), signs(10, 16, 1, 0.3), signs(10, 16, 6, 0.5)]
    write_result(
        "interval_coverage",
        {"intervals": rows, "nothing_changed": verdicts},
        script=__file__,
        files=["tests/jobs/hand_bench.py"],
    )


if __name__ == "__main__":
    main()
