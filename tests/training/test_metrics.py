"""Metrics: a glossary, how updates are merged, and reward statistics against numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddrl.errors import DDRLError
from ddrl.objective.advantage import center_advantage, global_advantage, group_advantage
from ddrl.records import Advantages, Scores, Status
from ddrl.training.logs.metrics import (
    GLOSSARY,
    glossary_table,
    merge,
    reward_metrics,
    spec_of,
    tag_of,
)


def test_a_name_is_described_by_itself_or_its_family() -> None:
    assert spec_of("reward") is GLOSSARY["reward"]
    assert spec_of("reward/ink") is GLOSSARY["reward/*"]
    assert spec_of("seconds/update") is GLOSSARY["seconds/update"]
    with pytest.raises(DDRLError, match="'made_up'"):
        spec_of("made_up")
    with pytest.raises(DDRLError, match="'seconds/naps'"):
        spec_of("seconds/naps")


def test_merge_reduces_each_as_the_glossary_says() -> None:
    updates = [
        {"policy_loss": 1.0, "ratio_max": 2.0, "flat_groups": 3.0, "learning_rate": 0.1},
        {"policy_loss": 3.0, "ratio_max": 1.0, "flat_groups": 4.0, "learning_rate": 0.2},
    ]
    assert merge(updates) == {
        "policy_loss": 2.0,
        "ratio_max": 2.0,
        "flat_groups": 7.0,
        "learning_rate": 0.2,
    }
    assert merge(updates[:1]) == updates[0]
    assert merge([]) == {}
    assert merge([{"policy_loss": 1.0}, {"data_loss": 2.0}]) == {
        "policy_loss": 1.0,
        "data_loss": 2.0,
    }


def test_the_table_has_a_row_per_metric() -> None:
    lines = glossary_table().splitlines()
    assert lines[0] == "| metric | in dashboards | unit | meaning |"
    assert len(lines) == 2 + len(GLOSSARY)
    for line, (name, spec) in zip(lines[2:], GLOSSARY.items(), strict=True):
        tag = f"`{tag_of(name)}`" if name != "step" else ""
        assert line == f"| `{name}` | {tag} | {spec.unit} | {spec.description} |"
        assert line.count("|") == 5  # no cell is cut in two
    assert all(spec.unit and spec.description.endswith(".") for spec in GLOSSARY.values())


@st.composite
def batches(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Values of two rewards, NaN where one failed, groups in any order, and latents."""
    size = draw(st.integers(2, 12))
    group = torch.tensor(draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)))
    finite = st.floats(-100, 100, width=32)
    value = torch.tensor(
        draw(st.lists(st.tuples(finite, finite), min_size=size, max_size=size)), dtype=torch.float32
    )
    failed = torch.tensor(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    failed[0] = False
    value[failed, 1] = torch.nan
    rng = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    return value, group, torch.randn((size, 1, 2, 2), generator=rng)


def scores_of(value: torch.Tensor) -> Scores:
    """What a scorer makes of values, NaN where a reward failed."""
    status = torch.where(value.isnan(), int(Status.NOT_FINITE), int(Status.OK))
    valid = ~value.isnan().any(1)
    names = ("one", "two")[: value.shape[1]]
    combined = value.sum(1).where(valid, 0)
    return Scores(value, status, names, combined, valid, 3 * combined)


def advantages(size: int, *, scale: torch.Tensor | None = None, flat: int = 0) -> Advantages:
    clipped = torch.arange(size) % 3 == 0
    keep = torch.ones(size, dtype=torch.bool)
    scale = torch.ones(size) if scale is None else scale
    return Advantages(torch.zeros(size), keep, flat, scale, clipped)


@settings(deadline=None, max_examples=60)
@given(batch=batches())
def test_reward_metrics_against_numpy(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    value, group, latents = batch
    scores = scores_of(value)
    size = len(group)
    scale = torch.tensor([0.5, 3.0, 7.0, 11.0])[group]
    found = reward_metrics(scores, advantages(size, scale=scale, flat=2), group, latents, 0.5)
    valid, reward = scores.valid.numpy(), scores.combined.double().numpy()
    stds = [
        reward[valid & (group.numpy() == g)].std()
        for g in range(4)
        if (valid & (group.numpy() == g)).any()
    ]
    std = float(np.mean(stds))
    groups = {g for g, is_valid in zip(group.tolist(), valid, strict=True) if is_valid}
    scales = [[0.5, 3.0, 7.0, 11.0][g] for g in groups]
    expected = {
        "reward": 3 * reward[valid].mean(),  # of raw values, whatever is trained on
        "reward_std": std,
        "reward_failed": 1 - valid.mean(),
        "reward/one": scores.value[:, 0].numpy().mean(dtype=np.float64),
        "reward/two": np.nanmean(scores.value[:, 1].numpy(), dtype=np.float64),
        "flat_groups": 2,
        "advantage_clipped": -(-size // 3) / size,
        "latent_std": latents.numpy().std(ddof=1),
        "effective_beta": 0.5 * float(np.mean(scales)),
    }
    for place, name in enumerate(("one", "two")):
        known = value[:, place][value[:, place].isfinite()].double().numpy()
        expected[f"reward_std/{name}"] = known.std()
        expected[f"reward_min/{name}"], expected[f"reward_max/{name}"] = known.min(), known.max()
        if len(known) < size:
            expected[f"reward_failed/{name}"] = 1 - len(known) / size
    assert found.keys() == expected.keys()
    for name, number in expected.items():
        assert found[name] == pytest.approx(float(number), rel=1e-4, abs=1e-4), name


@pytest.mark.parametrize(
    ("form", "expected"),
    [(group_advantage, 1.5), (global_advantage, 20.56), (center_advantage, 1.0)],
)
def test_effective_beta_is_in_units_of_the_reward(
    form: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Advantages], expected: float
) -> None:
    """Groups of standard deviation 1 and 2, far apart: that of the batch is neither."""
    scores = scores_of(torch.tensor([[0.0], [2.0], [40.0], [44.0], [torch.nan]]))
    group = torch.tensor([0, 0, 1, 1, 1])
    made = form(scores.combined, group, scores.valid)
    found = reward_metrics(scores, made, group, torch.eye(5), 1.0)
    assert found["effective_beta"] == pytest.approx(expected, abs=0.01)
    assert found["reward_std"] == pytest.approx(1.5)


def test_a_group_without_any_reward_does_not_shrink_the_spread() -> None:
    """effective_beta would fall with failures that have nothing to do with the spread."""
    scores = scores_of(torch.tensor([[0.0], [2.0], [torch.nan], [torch.nan]]))
    found = reward_metrics(scores, advantages(4), torch.tensor([0, 0, 1, 1]), torch.eye(4), 1.0)
    assert found["reward_std"] == pytest.approx(1.0)


def test_what_came_from_a_cache_is_counted() -> None:
    value = torch.eye(4)[:, :2]
    value[3] = torch.nan  # a failure is no value, but a sample
    scores = replace(scores_of(value), num_cached=(3, None))
    group = torch.zeros(4, dtype=torch.int64)
    found = reward_metrics(scores, advantages(4), group, torch.eye(4), 1.0)
    assert found["reward_cached/one"] == 0.75
    assert "reward_cached/two" not in found
    assert spec_of("reward_cached/one").unit == "share"
    assert "Smallest" in spec_of("reward_min/one").description
