"""The gradient of eq. (L1) is that of a slow, independent implementation, however it is batched."""

from __future__ import annotations

import copy
import dataclasses
from typing import Literal

import pytest
import torch
from tests.fakes import FakeCondition, FakeModel, Toy, gradients
from tests.training.slow_loss import SlowLoss
from torch import Tensor

from ddrl.errors import UsageError
from ddrl.objective.loss import Objective, StepWeight
from ddrl.objective.regularizer import TimeLaw
from ddrl.records import Advantages, Anchor, Trajectory
from ddrl.training.forward import Forward
from ddrl.training.minibatch import Minibatch, split
from ddrl.training.update import Gradient

SEED, STEP = 11, 3
GROUP = torch.tensor([0, 0, 0, 1, 1, 1])
LABELS = torch.tensor([2, 1])

Policy = Literal["reinforce", "grpo", "none"]
Regularizer = Literal["data", "reference", "none"]
POLICIES: list[Policy] = ["reinforce", "grpo"]
WEIGHTS: list[StepWeight] = ["path", "velocity", "geometric"]
REDUCTIONS: list[Literal["sum", "mean"]] = ["sum", "mean"]
LAWS: list[TimeLaw] = ["grid", "uniform", "logit_normal"]
PER_STEP: list[Literal["all", "one"]] = ["all", "one"]


def objective(**changes: object) -> Objective:
    """One that has every part switched on, with narrow and different clips."""
    return dataclasses.replace(
        Objective(beta=0.7, clip_low=0.05, clip_high=0.1, condition_dropout=0.4),
        **changes,  # type: ignore[arg-type]  # each test names fields with their values
    )


# Chunks of steps and rows that do not divide the numbers of steps and rows.
TOY = Toy(num_steps=4, trained=(0, 2, 3), micro_batch=4, steps_per_pass=2)


class Case:
    """A rollout, its advantages and an anchor; the policy has moved since."""

    def __init__(self, toy: Toy, *, moved: float = 0.15) -> None:
        self.toy = toy
        self.behaviour = FakeModel(seed=1)
        self.model = copy.deepcopy(self.behaviour)
        rng = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in self.model.transformer.parameters():
                parameter.add_(moved * torch.randn(parameter.shape, generator=rng))
        self.reference = FakeModel(seed=3)
        # The update's micro-batches are not the rollout's.
        sampler = toy.but(micro_batch=0).sampler(self.behaviour, seed=SEED, reference=self.held_to)
        self.trajectory = sampler.rollout(FakeCondition(LABELS), GROUP, step=STEP)
        # The fifth sample's reward failed.
        self.advantages = Advantages(
            value=torch.tensor([1.3, -0.8, -0.5, 0.9, 0.0, -0.9]),
            keep=torch.tensor([True, True, True, True, False, True]),
            num_flat_groups=0,
            scale=torch.ones(6),
            clipped=torch.zeros(6, dtype=torch.bool),
        )
        self.anchor = Anchor(
            torch.rand((5, 1, 2, 2), generator=rng) * 2 - 1,
            FakeCondition(torch.tensor([1, 1, 2, 2, 3])),
            torch.arange(5),
        )

    @property
    def held_to(self) -> Forward:
        return Forward(self.reference, guidance=self.toy.guidance)

    @property
    def gradient(self) -> Gradient:
        return Gradient(
            self.toy.sampler(self.model, seed=SEED),
            self.toy.objective,
            steps_per_pass=self.toy.steps_per_pass,
            reference=self.held_to,
        )

    def fast(self) -> tuple[Tensor, dict[str, float]]:
        """The gradient and metrics of the code."""
        self.model.transformer.zero_grad()
        metrics: dict[str, Tensor] = {}
        if self.toy.objective.policy != "none":
            metrics |= self.gradient.policy(self.trajectory, self.advantages)
        if self.toy.objective.regularizer == "data":
            metrics |= self.gradient.data(self.anchor, step=STEP, num_anchors=len(self.anchor))
        return gradients(self.model), {name: float(value) for name, value in metrics.items()}

    def slow(self) -> tuple[Tensor, dict[str, float]]:
        """The gradient and metrics of the loops."""
        slow = SlowLoss(self.toy, self.model, self.reference, seed=SEED)
        parts = []
        if self.toy.objective.policy != "none":
            parts.append(slow.policy(self.trajectory, self.advantages, self.behaviour))
        if self.toy.objective.regularizer == "data":
            parts.append(slow.data(self.anchor, step=STEP, num_anchors=len(self.anchor)))
        torch.autograd.backward(sum((part.loss for part in parts), torch.zeros(())))
        return gradients(slow.model), {k: v for part in parts for k, v in part.metrics.items()}


def assert_equal_gradients(found: Tensor, expected: Tensor, *, relative: float = 1e-5) -> None:
    assert float(expected.norm()) > 1e-3
    assert float((found - expected).norm() / expected.norm()) < relative


def check(toy: Toy) -> None:
    case = Case(toy)
    (found, metrics), (expected, expected_metrics) = case.fast(), case.slow()
    assert_equal_gradients(found.double(), expected)
    assert metrics == pytest.approx(expected_metrics, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("step_weight", WEIGHTS)
@pytest.mark.parametrize("per_step", PER_STEP)
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("policy", [*POLICIES, "none"])
def test_ddrl_and_sft(
    policy: Policy,
    law: TimeLaw,
    per_step: Literal["all", "one"],
    step_weight: StepWeight,
    reduction: Literal["sum", "mean"],
) -> None:
    chosen = objective(
        policy=policy,
        data_times=law,
        data_per_step=per_step,
        step_weight=step_weight,
        reduction=reduction,
    )
    check(TOY.but(objective=chosen))


@pytest.mark.parametrize("kl_in_return", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("step_weight", WEIGHTS)
@pytest.mark.parametrize("policy", POLICIES)
def test_reference(
    policy: Policy, step_weight: StepWeight, reduction: Literal["sum", "mean"], kl_in_return: bool
) -> None:
    chosen = objective(
        policy=policy,
        regularizer="reference",
        step_weight=step_weight,
        reduction=reduction,
        kl_in_return=kl_in_return,
    )
    check(TOY.but(objective=chosen))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("step_weight", WEIGHTS)
@pytest.mark.parametrize("policy", POLICIES)
def test_no_regularizer(
    policy: Policy, step_weight: StepWeight, reduction: Literal["sum", "mean"]
) -> None:
    chosen = objective(
        policy=policy, regularizer="none", step_weight=step_weight, reduction=reduction
    )
    check(TOY.but(objective=chosen))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("per_step", PER_STEP)
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_teacher(
    guidance: float,
    law: TimeLaw,
    per_step: Literal["all", "one"],
    reduction: Literal["sum", "mean"],
) -> None:
    chosen = objective(
        data_target="teacher", data_times=law, data_per_step=per_step, reduction=reduction
    )
    check(TOY.but(objective=chosen, guidance=guidance))


@pytest.mark.parametrize("regularizer", ["data", "reference"])
@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": "dance_sde"},
        {"kernel": "ddim", "trained": None},
        {"kernel": "cps", "trained": None, "eta": 0.5},
        {"guidance": 2.0},
        {"storage_dtype": torch.bfloat16},
        {"trained": None, "micro_batch": 0, "steps_per_pass": 1},
        {"trained": (1,), "micro_batch": 1, "steps_per_pass": 4},
    ],
    ids=["dance_sde", "ddim", "cps", "guidance", "bfloat16", "whole", "single"],
)
def test_samplers_guidance_storage_and_passes(
    regularizer: Regularizer, changes: dict[str, object]
) -> None:
    # bfloat16 latents are exact in float64; the behaviour's log-probability is theirs.
    chosen = objective(regularizer=regularizer, kl_in_return=regularizer == "reference")
    check(TOY.but(objective=chosen, **changes))


def test_the_slow_loss_tells_mistakes_apart() -> None:
    """A change of any one setting changes the slow gradient, so that no case above is idle."""
    base = objective()
    (expected, _) = Case(TOY.but(objective=base)).slow()
    changed: list[dict[str, object]] = [
        {"policy": "reinforce"},
        {"regularizer": "none"},
        {"step_weight": "velocity"},
        {"reduction": "mean"},
        {"data_times": "uniform"},
        {"data_target": "teacher"},
        {"data_per_step": "one"},
        {"condition_dropout": 0.0},
        {"clip_low": 0.5},
        {"clip_high": 0.5},
        {"beta": 0.71},
    ]
    for change in changed:
        other, _ = Case(TOY.but(objective=objective(**change))).slow()
        assert float((other - expected).norm() / expected.norm()) > 1e-3, change


def test_a_dropped_sample_gives_nothing() -> None:
    """Its latents may be anything finite: gradient and metrics do not see them."""
    case = Case(TOY.but(objective=objective(regularizer="reference", kl_in_return=True)))
    before, metrics = case.fast()
    case.trajectory.latents[4] += 1.0
    assert case.trajectory.reference_kl is not None
    case.trajectory.reference_kl[4] += 1.0
    after, metrics_after = case.fast()
    assert torch.equal(before, after)
    assert metrics == metrics_after
    case.trajectory.latents[3] += 1.0
    assert not torch.equal(before, case.fast()[0])


@pytest.mark.parametrize("regularizer", ["data", "reference", "none"])
@pytest.mark.parametrize("micro_batch", [1, 2, 4, 16])
@pytest.mark.parametrize("steps_per_pass", [1, 3])
def test_the_gradient_does_not_depend_on_the_passes(
    regularizer: Regularizer, micro_batch: int, steps_per_pass: int
) -> None:
    chosen = objective(regularizer=regularizer)
    whole, metrics = Case(TOY.but(objective=chosen, micro_batch=0, steps_per_pass=1)).fast()
    toy = TOY.but(objective=chosen, micro_batch=micro_batch, steps_per_pass=steps_per_pass)
    parts, metrics_of_parts = Case(toy).fast()
    assert_equal_gradients(parts, whole)
    assert metrics_of_parts == pytest.approx(metrics, rel=1e-4)


def test_eight_in_one_pass_is_four_times_two() -> None:
    """Accumulation over 8 samples: one pass, or 4 passes of 2."""

    def gradient(micro_batch: int) -> Tensor:
        case = Case(TOY.but(objective=objective(), micro_batch=micro_batch))
        eight = torch.tensor([0, 1, 2, 3, 5, 0, 1, 2])
        case.trajectory = case.trajectory.select(eight)
        case.advantages = case.advantages.select(eight)
        anchor = case.anchor.select(torch.tensor([0, 1, 2, 3, 4, 0, 1, 2]))
        case.anchor = Anchor(anchor.x0, anchor.condition, torch.arange(8))
        return case.fast()[0]

    assert_equal_gradients(gradient(2), gradient(8))


def parts_of(
    case: Case, num_updates: int
) -> list[tuple[Trajectory, Advantages, Anchor, Minibatch]]:
    correction = case.gradient.return_correction(case.trajectory, case.advantages)
    anchor = case.anchor.select(torch.tensor([0, 1, 2, 3]))
    whole = Minibatch(case.trajectory, case.advantages, anchor, correction=correction)
    found = []
    for part in split(whole, num_updates):
        assert part.trajectory is not None
        assert part.advantages is not None
        assert part.anchor is not None
        found.append((part.trajectory, part.advantages, part.anchor, part))
    return found


def case_of_four() -> Case:
    """Two groups of four."""
    case = Case(TOY.but(objective=objective(regularizer="reference", kl_in_return=True)))
    rows = torch.tensor([0, 1, 2, 0, 3, 4, 5, 3])
    trajectory = case.trajectory.select(rows)
    case.trajectory = dataclasses.replace(trajectory, sample_id=torch.arange(8))
    case.advantages = case.advantages.select(rows)
    return case


def test_a_split_has_members_of_every_group_and_keeps_advantages() -> None:
    case = case_of_four()
    parts = parts_of(case, 2)
    seen = []
    for trajectory, advantages, anchor, _ in parts:
        assert trajectory.group.tolist() == [0, 0, 1, 1]
        assert len(trajectory.condition) == 2
        assert len(anchor) == 2
        names = trajectory.sample_id
        seen += names.tolist()
        assert torch.equal(advantages.value, case.advantages.value[names])
        assert torch.equal(advantages.keep, case.advantages.keep[names])
        assert torch.equal(trajectory.latents, case.trajectory.latents[names])
    assert sorted(seen) == list(range(8))


def test_a_split_keeps_the_groups_baseline_of_the_return() -> None:
    """With one member per group and update, a baseline of its own would charge nothing."""
    case = case_of_four()
    correction = case.gradient.return_correction(case.trajectory, case.advantages)
    assert correction is not None
    assert float(correction.abs().max()) > 0.01
    for trajectory, _, _, part in parts_of(case, 4):
        assert part.correction is not None
        assert torch.equal(part.correction, correction[trajectory.sample_id])


def test_a_part_knows_how_many_anchors_there_are() -> None:
    """Random draws are a table of all of them: a part alone would read other rows, or none."""
    case = Case(TOY.but(objective=objective()))
    whole = Minibatch(anchor=case.anchor)
    part = split(whole, 2)[1]
    assert part.anchor is not None
    assert part.num_anchors == len(case.anchor) == 5
    case.gradient.data(part.anchor, step=STEP, num_anchors=part.num_anchors)
    with pytest.raises(IndexError):
        case.gradient.data(part.anchor, step=STEP)


def test_two_reductions_are_refused() -> None:
    """The ratio of a sum and a mean is no ratio of densities."""
    sampler = Toy().sampler(FakeModel())
    with pytest.raises(UsageError, match=r"takes the sum .* and the objective the mean"):
        Gradient(sampler, Objective(reduction="mean"))


def test_the_updates_of_a_split_add_up_to_the_whole() -> None:
    """On unmoved weights, equal parts average to the whole gradient, the data term included."""
    toy = TOY.but(objective=objective())
    case = Case(toy, moved=0.0)
    case.advantages = dataclasses.replace(case.advantages, keep=torch.ones(6, dtype=torch.bool))
    case.anchor = case.anchor.select(torch.tensor([0, 1, 2]))
    whole, _ = case.fast()
    total = torch.zeros_like(whole)
    for part in split(Minibatch(case.trajectory, case.advantages, case.anchor), 3):
        assert part.trajectory is not None
        assert part.advantages is not None
        assert part.anchor is not None
        case.model.transformer.zero_grad()
        case.gradient.policy(part.trajectory, part.advantages)
        case.gradient.data(part.anchor, step=STEP, num_anchors=3)
        total += gradients(case.model) / 3
    assert_equal_gradients(total, whole)


def test_the_rollouts_first_update_has_equal_gradients_for_both_policies() -> None:
    """On unmoved weights rho = 1, so the clip is idle and both are A grad log p."""
    found = [
        Case(TOY.but(objective=objective(policy=policy)), moved=0.0).fast()[0]
        for policy in POLICIES
    ]
    assert_equal_gradients(found[0], found[1])


def test_all_samples_dropped_gives_no_policy_gradient() -> None:
    case = Case(TOY.but(objective=objective(regularizer="none")))
    case.advantages = dataclasses.replace(case.advantages, keep=torch.zeros(6, dtype=torch.bool))
    found, metrics = case.fast()
    assert not found.any()
    assert all(value == 0 for value in metrics.values())
