"""What a recipe amounts to: batch arithmetic, network passes, weights per step, memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ddrl.errors import RecipeError
from ddrl.recipe.plan.memory import Footprint, Memory, plan_memory
from ddrl.recipe.recipe import Recipe
from ddrl.recipe.steps import trained_steps

_BETA_UNITS = {
    "group": "standard deviations of the reward within its group",
    "global": "standard deviations of the reward over the batch",
    "center": "units of the reward",
    "tilt": "units of the reward",
}


@dataclass(frozen=True)
class Passes:
    """Passes of one sample through the network, per training step.

    Attributes:
        rollout: without gradient, to draw the samples.
        policy: forward and backward, of the policy term.
        data: forward and backward, of the data term.
        reference: without gradient, through the reference model, or the data term's teacher.
    """

    rollout: int
    policy: int
    data: int
    reference: int

    @property
    def forward_equivalents(self) -> int:
        """The cost in forward passes, where a backward pass counts as two."""
        return self.rollout + self.reference + 3 * (self.policy + self.data)


@dataclass(frozen=True)
class StepPlan:
    """One step of the sampler.

    Attributes:
        index: counted from 0, the step that starts at pure noise.
        t: time it starts from.
        s: time it goes to.
        std: noise of eq. (T1).
        is_trained: whether it enters the loss; the fields below are 0 if not.
        kl_weight: W = b^2 / (2 std^2), eqs. (T3), (T4).
        step_weight: omega of eq. (L1), with mean 1 over the trained steps.
        policy_weight: factor of A log p in the loss.
        regularizer_weight: factor of ||v_theta - v||^2 in the loss, beta included.
        effective_beta: what the gradients of the two terms weigh for the conditional velocity:
            regularizer_weight / (W policy_weight), over the guidance for the data term, since
            guidance multiplies the policy term's gradient alone; inf without a policy term.
    """

    index: int
    t: float
    s: float
    std: float
    is_trained: bool
    kl_weight: float
    step_weight: float
    policy_weight: float
    regularizer_weight: float
    effective_beta: float


@dataclass(frozen=True)
class Plan:
    """The arithmetic of a recipe.

    Attributes:
        recipe: the recipe.
        num_samples: rollouts per training step, B; 0 without a policy term.
        num_data_samples: data samples per training step; 0 without a data term.
        num_updates: optimizer updates of the whole run.
        passes: network passes per training step.
        steps: one per step of the sampler.
        beta_unit: what beta is measured in.
        memory: an estimate.
    """

    recipe: Recipe
    num_samples: int
    num_data_samples: int
    num_updates: int
    passes: Passes
    steps: tuple[StepPlan, ...]
    beta_unit: str
    memory: Memory

    @property
    def trained_steps(self) -> tuple[int, ...]:
        """Steps that enter the loss, ascending."""
        return tuple(step.index for step in self.steps if step.is_trained)

    @property
    def effective_beta(self) -> tuple[float, ...]:
        """One beta per trained step; they are equal when the loss has one optimum."""
        return tuple(step.effective_beta for step in self.steps if step.is_trained)


def make_plan(
    recipe: Recipe,
    *,
    transitions: Sequence[tuple[float, float, float]],
    times: Sequence[float],
    footprint: Footprint,
) -> Plan:
    """Work out what a recipe amounts to.

    Args:
        recipe: a checked recipe.
        transitions: (a, b, std) of eq. (T1) for each of the K steps; std is 0 at ODE steps.
        times: t_0 = 1 to t_K = 0, K + 1 of them.
        footprint: of the model and its data.

    Raises:
        ValueError: the number of steps or times is not the recipe's.
        RecipeError: a trained step has no noise at these times.
    """
    num_steps = recipe.rollout.steps
    if len(transitions) != num_steps or len(times) != num_steps + 1:
        raise ValueError(
            f"rollout.steps is {num_steps}, so {num_steps} transitions and {num_steps + 1} times "
            f"are needed, not {len(transitions)} and {len(times)}"
        )
    objective = recipe.objective
    has_policy, has_data = objective.policy != "none", objective.regularizer == "data"
    prompts, size = recipe.rollout.prompts_per_step, recipe.rollout.group_size
    num_samples = prompts * size if has_policy else 0
    num_data = prompts * (recipe.data.anchors_per_group or size) if has_data else 0
    return Plan(
        recipe=recipe,
        num_samples=num_samples,
        num_data_samples=num_data,
        num_updates=recipe.run.steps * objective.updates_per_rollout,
        passes=_passes(recipe, num_samples, num_data),
        steps=_step_plans(recipe, transitions, times, footprint.latent),
        beta_unit=_BETA_UNITS[objective.advantage] if has_policy else "",
        memory=plan_memory(recipe, footprint, num_samples=num_samples, num_data=num_data),
    )


def _passes(recipe: Recipe, num_samples: int, num_data: int) -> Passes:
    objective = recipe.objective
    num_trained = len(trained_steps(recipe.rollout))
    # Guidance needs the unconditional velocity as well, in the loss as in the rollout, or the
    # replayed ratio would not be 1. The data term is never guided.
    per_velocity = 1 if recipe.rollout.guidance == 1 else 2
    policy = num_samples * num_trained * per_velocity
    rollout = num_samples * recipe.rollout.steps * per_velocity
    data = num_data * (num_trained if objective.data_per_step == "all" else 1)
    return Passes(
        rollout=rollout,
        policy=policy,
        data=data,
        reference=_reference_passes(recipe, rollout, policy, data),
    )


def _reference_passes(recipe: Recipe, rollout: int, policy: int, data: int) -> int:
    """As many as the policy term's, and with ``kl_in_return`` as many as the rollout's too.

    Where it is the data term's teacher, as many as the data term's.
    """
    if recipe.data.target == "teacher":
        return data
    if recipe.objective.regularizer != "reference":
        return 0
    return policy + (rollout if recipe.objective.kl_in_return else 0)


def _step_plans(
    recipe: Recipe,
    transitions: Sequence[tuple[float, float, float]],
    times: Sequence[float],
    latent_size: int,
) -> tuple[StepPlan, ...]:
    objective = recipe.objective
    trained = trained_steps(recipe.rollout)
    kl_weights = {index: _kl_weight(index, *transitions[index][1:]) for index in trained}
    power = {"path": 0.0, "velocity": -1.0, "geometric": -0.5}[objective.step_weight]
    mean = math.fsum(weight**power for weight in kl_weights.values()) / len(trained)
    rows: list[StepPlan] = []
    for index, (_, _, std) in enumerate(transitions):
        weights = (0.0,) * 5
        if index in kl_weights:
            omega = kl_weights[index] ** power / mean
            weights = _term_weights(recipe, kl_weights[index], omega, latent_size)
        rows.append(
            StepPlan(index, times[index], times[index + 1], std, index in trained, *weights)
        )
    return tuple(rows)


def _kl_weight(index: int, b: float, std: float) -> float:
    """W = b^2 / (2 std^2). Eqs. (T3), (T4)."""
    if std <= 0:
        raise RecipeError(
            f"Step {index} is trained, but has no noise at this time grid.",
            hint="leave it out of rollout.trained_steps, or raise rollout.eta",
        )
    return b**2 / (2 * std**2)


def _term_weights(
    recipe: Recipe, kl_weight: float, omega: float, latent_size: int
) -> tuple[float, float, float, float, float]:
    """Return the numbers of a trained step: W, omega, both terms' factors, and beta_k.

    beta_k is measured, not assumed: it compares the factors that the two terms end up with.
    Reducing over dimensions, data times and data_per_step act on both or keep the expectation.
    """
    objective = recipe.objective
    share = 1.0 if objective.log_prob_reduction == "sum" else 1.0 / latent_size
    policy = 0.0 if objective.policy == "none" else omega * share
    regularizer = 0.0
    if objective.regularizer != "none":
        regularizer = objective.beta * omega * kl_weight * share
    # The data term is never guided; the reference term is, as the policy term is.
    guidance = recipe.rollout.guidance if objective.regularizer == "data" else 1.0
    beta = math.inf if policy == 0 else regularizer / (kl_weight * policy * guidance)
    return kl_weight, omega, policy, regularizer, beta
