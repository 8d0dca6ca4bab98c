from __future__ import annotations

import pytest
import torch

from ddrl.builders.scorers import build_heldout, build_scorer
from ddrl.builders.tasks.table import task_of
from ddrl.errors import RewardError
from ddrl.recipe.reading.load import parse_recipe
from ddrl.records import Prompts

TEXT = """
[[reward]]
name = "tests.rewards.faulty:Faulty"
timeout = 0.05
options = { fault = "slow" }
[[evaluation.reward]]
name = "tests.rewards.faulty:Faulty"
timeout = 0.05
options = { fault = "slow", at = 0 }
"""


def test_the_hint_of_a_late_reward_names_its_table() -> None:
    media, group = torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64)
    prompts = Prompts(torch.tensor([0, 1]), ("a", "b"), ({}, {}))
    recipe = parse_recipe(TEXT)
    with pytest.raises(RewardError, match="gave no answer for 2 samples") as caught:
        build_scorer(task_of(recipe)).score(media, prompts, group)
    assert caught.value.hint.endswith("needs a larger timeout in its [[reward]]")
    heldout = build_heldout(task_of(recipe))
    assert heldout is not None
    (column,) = heldout.measure(media, prompts, group)
    assert "gave no answer for 2 samples" in column.cause
    assert column.hint.endswith("needs a larger timeout in its [[evaluation.reward]]")
