"""Which prompts got worse: every prompt of a run against the same prompt and noise of the base."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ddrl.evaluation.measures.result import Regression

NUM_WORST = 5
"""Prompts that a report shows, at most."""

Values = NDArray[np.float64]


def worst_prompts(
    prompt_id: NDArray[np.int64],
    reward: tuple[Values, Values],
    measures: Mapping[str, tuple[Values, Values]],
    *,
    num: int = NUM_WORST,
) -> tuple[Regression, ...]:
    """Return the prompts that lost most in what training never saw.

    A prompt's change in a measure is the mean over its samples of run - base, in standard
    deviations of the base's values over all samples (of both models' where the base's are all
    equal). Prompts are ranked by their worst measure, or by the trained reward where it is the only
    one.

    Args:
        prompt_id: (N,) the prompt of every sample.
        reward: (N,) the trained reward of the base's and of the run's samples; NaN where it failed.
        measures: name -> the same for every judge and held-out reward.
        num: how many prompts are returned, at most.

    Returns:
        The worst first; a change may be positive where nothing got worse. Prompts without any
        finite value are left out.
    """
    ranked = measures or {"reward": reward}
    spreads = {
        name: _spread(base) or _spread(np.concatenate([base, run])) or 1.0
        for name, (base, run) in ranked.items()
    }
    found = []
    for prompt in np.unique(prompt_id):
        rows = prompt_id == prompt
        means = {name: _means(pair, rows) for name, pair in measures.items()}
        reward_means = _means(reward, rows)
        changes = {
            name: (after - before) / spreads[name]
            for name, (before, after) in (means or {"reward": reward_means}).items()
            if np.isfinite(after - before)
        }
        if not changes:
            continue
        worst = min(changes, key=lambda name: changes[name])
        found.append(
            Regression(
                prompt_id=int(prompt),
                reward=reward_means,
                measures=tuple((name, *pair) for name, pair in means.items()),
                worst=worst,
                change=changes[worst],
            )
        )
    return tuple(sorted(found, key=lambda one: (one.change, one.prompt_id))[:num])


def _spread(values: Values) -> float:
    """Standard deviation of the finite values; 0 where there are none or rounding explains it."""
    known = values[np.isfinite(values)]
    spread = float(known.std()) if len(known) else 0.0
    return spread if spread > 1e-6 * max(1.0, float(abs(known).max(initial=0.0))) else 0.0


def _means(pair: tuple[Values, Values], rows: NDArray[np.bool_]) -> tuple[float, float]:
    """Means of base and run over the samples of a prompt that both have."""
    both = rows & np.isfinite(pair[0]) & np.isfinite(pair[1])
    if not both.any():
        return float("nan"), float("nan")
    return float(pair[0][both].mean()), float(pair[1][both].mean())
