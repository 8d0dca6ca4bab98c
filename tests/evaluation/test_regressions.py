from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ddrl.evaluation.findings.regressions import worst_prompts

PROMPTS = np.repeat(np.arange(3), 2)
BASE = np.array([0.0, 2.0, 0.0, 2.0, 0.0, 2.0])  # std 1, mean 1 in every prompt
BETTER = BASE + 5.0


def moved(*by_prompt: float) -> NDArray[np.float64]:
    return np.asarray(BASE + np.repeat(by_prompt, 2))


def test_prompts_are_ranked_by_the_measure_that_fell_most() -> None:
    measures = {"judge": (BASE, moved(0.5, -1.0, 0.0)), "other": (BASE, moved(-3.0, 4.0, 0.25))}
    found = worst_prompts(PROMPTS, (BASE, BETTER), measures)
    assert [(one.prompt_id, one.worst) for one in found] == [
        (0, "other"),
        (1, "judge"),
        (2, "judge"),
    ]
    assert [one.change for one in found] == pytest.approx([-3.0, -1.0, 0.0])
    assert found[0].measures == (("judge", 1.0, 1.5), ("other", 1.0, -2.0))
    assert found[0].reward == (1.0, 6.0)


def test_changes_are_in_units_of_the_bases_spread() -> None:
    measures = {"wide": (10 * BASE, 10 * BASE - 5.0), "narrow": (0.1 * BASE, 0.1 * BASE - 0.2)}
    found = worst_prompts(PROMPTS, (BASE, BETTER), measures, num=1)
    assert len(found) == 1
    assert found[0].worst == "narrow"
    assert found[0].change == pytest.approx(-2.0)


def test_without_measures_the_reward_ranks() -> None:
    found = worst_prompts(PROMPTS, (BASE, moved(1.0, -0.5, -2.0)), {})
    assert [(one.prompt_id, one.worst) for one in found] == [
        (2, "reward"),
        (1, "reward"),
        (0, "reward"),
    ]


def test_samples_that_failed_are_left_out_of_both() -> None:
    run = moved(1.0, 1.0, 1.0)
    run[0] = np.nan
    run[2:4] = np.nan
    found = worst_prompts(PROMPTS, (BASE, run), {})
    assert [one.prompt_id for one in found] == [0, 2]
    assert found[0].reward == (2.0, 3.0)


def test_a_base_whose_values_are_all_equal_gives_no_astronomical_change() -> None:
    """The spread of both models together is the unit."""
    flat, won = np.zeros(6), np.array([1.0, 1, 1, 1, 0, 0])
    found = worst_prompts(PROMPTS, (BASE, BETTER), {"judge": (flat, won)})
    spread = np.concatenate([flat, won]).std()
    assert [one.prompt_id for one in found] == [2, 0, 1]
    assert [one.change for one in found] == pytest.approx([0.0, 1 / spread, 1 / spread])
