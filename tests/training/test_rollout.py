"""The rollout: noise by name, the same samples in any batches, and a replay with ratio 1."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.fakes import FakeModel
from torch import Tensor

from ddrl.diffusion.kernels import make_kernel
from ddrl.diffusion.process import RectifiedFlow
from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.solvers import Solver
from ddrl.diffusion.transition import Reduction, Transitions
from ddrl.errors import UsageError
from ddrl.models.base import DiffusionModel
from ddrl.models.tiny.config import TinyConfig
from ddrl.models.tiny.model import TinyModel
from ddrl.objective.loss import Objective
from ddrl.records import Advantages, Condition, Trajectory
from ddrl.seeding import sample_noise
from ddrl.training.forward import Forward
from ddrl.training.rollout import Sampler, batches, sample_ode
from ddrl.training.update import Gradient

NUM_STEPS = 5
GROUP = torch.arange(2).repeat_interleave(8)
Make = Callable[[], DiffusionModel]


def shaken(model: TinyModel) -> TinyModel:
    """The model with weights that do something: fresh ones give velocity 0."""
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.transformer.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
    return model


def fake() -> DiffusionModel:
    return FakeModel()


def mlp() -> DiffusionModel:
    return shaken(TinyModel(TinyConfig(("red", "green"), 4, 4, width=32, depth=2)))


def dit() -> DiffusionModel:
    config = TinyConfig(("red", "green"), 4, 4, network="dit", width=16, depth=2, heads=2)
    return shaken(TinyModel(config))


MODELS = pytest.mark.parametrize("make", [fake, mlp, dit])


def transitions(kernel: str = "flow_sde") -> Transitions:
    return Transitions.build(make_kernel(kernel, eta=0.7), RectifiedFlow(), time_grid(NUM_STEPS))


def sampler_of(model: DiffusionModel, *, guidance: float = 1.0, **options: Any) -> Sampler:
    shape = (1, 2, 2) if isinstance(model, FakeModel) else (1, 4, 4)
    forward = Forward(model, guidance=guidance)
    return Sampler(forward, transitions(), latent_shape=shape, seed=3, **options)


def roll(
    model: DiffusionModel,
    *,
    micro_batch: int = 0,
    guidance: float = 1.0,
    dtype: torch.dtype = torch.float32,
    sample_ids: list[int] | None = None,
    reduction: Reduction = "sum",
    reference: Forward | None = None,
    group: Tensor = GROUP,
) -> Trajectory:
    sampler = sampler_of(
        model,
        micro_batch=micro_batch,
        guidance=guidance,
        storage_dtype=dtype,
        reduction=reduction,
        reference=reference,
    )
    condition = model.encode(["red", "green"])
    return sampler.rollout(condition, group, step=9, sample_ids=sample_ids)


def ratio_deviation(
    model: DiffusionModel, trajectory: Trajectory, *, micro_batch: int, guidance: float = 1.0
) -> float:
    again = sampler_of(model, guidance=guidance, micro_batch=micro_batch).replay(trajectory)
    return float(((again - trajectory.log_prob).exp() - 1).abs().max())


@pytest.mark.parametrize("length", [1, 7, 8])
@pytest.mark.parametrize("size", [0, 1, 3, 8, 100])
def test_batches_cover_once(length: int, size: int) -> None:
    rows = [list(range(length))[chunk] for chunk in batches(length, size)]
    assert [row for chunk in rows for row in chunk] == list(range(length))
    assert max(map(len, rows)) <= (size or length)


@MODELS
@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("micro_batch", [0, 5])
def test_replay_in_the_same_batches_has_ratio_1(
    make: Make, micro_batch: int, dtype: torch.dtype, guidance: float
) -> None:
    model = make()
    trajectory = roll(model, micro_batch=micro_batch, guidance=guidance, dtype=dtype)
    assert trajectory.latents.dtype == dtype
    assert trajectory.log_prob.dtype == torch.float32
    assert float(trajectory.log_prob.std()) > 0.1
    found = ratio_deviation(model, trajectory, micro_batch=micro_batch, guidance=guidance)
    assert found <= 1e-6


@MODELS
@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_replay_in_other_batches_has_ratio_1(
    make: Make, dtype: torch.dtype, guidance: float
) -> None:
    model = make()
    trajectory = roll(model, micro_batch=16, guidance=guidance, dtype=dtype)
    for micro_batch in (1, 3, 4):
        found = ratio_deviation(model, trajectory, micro_batch=micro_batch, guidance=guidance)
        assert found <= 1e-3


@MODELS
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_update_sees_ratio_1_too(make: Make, guidance: float) -> None:
    """The gradient's own pass, which records for autograd, gives the rollout's log-probability."""
    model = make()
    trajectory = roll(model, micro_batch=5, guidance=guidance)
    sampler = sampler_of(model, guidance=guidance, micro_batch=5)
    gradient = Gradient(sampler, Objective(regularizer="none"))
    size = len(trajectory)
    advantages = Advantages(
        torch.ones(size), torch.ones(size) > 0, 0, torch.ones(size), torch.zeros(size) > 0
    )
    metrics = gradient.policy(trajectory, advantages)
    assert float(metrics["ratio_deviation"]) <= 1e-6
    assert abs(float(metrics["ratio_max"]) - 1) <= 1e-6


@MODELS
def test_a_moved_model_does_not_replay(make: Make) -> None:
    model = make()
    trajectory = roll(model)
    with torch.no_grad():
        for parameter in model.transformer.parameters():
            parameter.mul_(1.1)
    assert ratio_deviation(model, trajectory, micro_batch=0) > 1e-3


@pytest.mark.parametrize("micro_batch", [1, 4, 16])
def test_noise_is_named_by_the_sample(micro_batch: int) -> None:
    model = FakeModel()
    trajectory = roll(model, micro_batch=micro_batch)
    named = sample_noise(
        (NUM_STEPS + 1, 1, 2, 2), run_seed=3, purpose="rollout", step=9, sample_ids=range(16)
    )
    assert torch.equal(trajectory.latents[:, 0], named[:, 0])
    # and wherever the sample stands in the batch
    ids = list(reversed(range(16)))
    other = roll(model, micro_batch=micro_batch, sample_ids=ids)
    assert torch.equal(other.latents[:, 0], named[:, 0].flip(0))
    assert other.sample_id.tolist() == ids


def test_every_step_has_noise_of_its_own() -> None:
    """x_s = a x + b v + std noise_{k+1}: none is used twice, and the first is the start."""
    model = FakeModel()
    trajectory, steps = roll(model, micro_batch=5), transitions()
    named = sample_noise(
        (NUM_STEPS + 1, 1, 2, 2), run_seed=3, purpose="rollout", step=9, sample_ids=range(16)
    )
    condition = trajectory.condition[trajectory.group]
    for k in range(NUM_STEPS):
        x = trajectory.latents[:, k]
        with torch.no_grad():
            velocity = model.predict(x, steps.times[k].float().expand(16), condition)
        mean = steps.a[k].float() * x + steps.b[k].float() * velocity
        used = (trajectory.latents[:, k + 1] - mean) / steps.std[k].float()
        torch.testing.assert_close(used, named[:, k + 1], rtol=1e-4, atol=1e-4)


@MODELS
@pytest.mark.parametrize("micro_batch", [1, 4])
def test_samples_do_not_depend_on_the_batches(make: Make, micro_batch: int) -> None:
    model = make()
    whole, parts = roll(model, micro_batch=16), roll(model, micro_batch=micro_batch)
    assert torch.equal(whole.latents[:, 0], parts.latents[:, 0])
    off = (whole.latents - parts.latents).norm() / whole.latents.norm()
    assert float(off) < 1e-5
    assert float((whole.log_prob - parts.log_prob).abs().max()) < 1e-3


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    model = FakeModel()
    whole = roll(model)
    few = roll(model, sample_ids=[12, 3], group=torch.tensor([1, 0]))
    torch.testing.assert_close(few.latents, whole.latents[[12, 3]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [[0, 2], [4, 1]])
def test_a_replay_of_some_steps_is_of_these(steps: list[int]) -> None:
    model = fake()
    trajectory = roll(model)
    again = sampler_of(model).replay(trajectory, steps=steps)
    torch.testing.assert_close(again, trajectory.log_prob[:, steps], rtol=1e-5, atol=1e-5)


def test_steps_without_a_density_are_not_trained() -> None:
    """The last step of ddim has none: by default it is left out, and asked for it is refused."""
    model = fake()
    ddim = Transitions.build(make_kernel("ddim", eta=1.0), RectifiedFlow(), time_grid(4))
    sampler = Sampler(Forward(model), ddim, latent_shape=(1, 2, 2), seed=3)
    assert sampler.trained == (0, 1, 2)
    trajectory = sampler.rollout(model.encode(["red", "green"]), GROUP, step=0)
    assert sampler.replay(trajectory).shape == (len(GROUP), 3)
    assert Gradient(sampler, Objective()).trained == (0, 1, 2)
    everything = Sampler(Forward(model), ddim, latent_shape=(1, 2, 2), seed=3, trained=range(4))
    with pytest.raises(UsageError, match="Step 3 is deterministic"):
        Gradient(everything, Objective())
    ode = Transitions.build(make_kernel("ode", eta=0.0), RectifiedFlow(), time_grid(4))
    with pytest.raises(UsageError, match="nothing to train"):
        Gradient(Sampler(Forward(model), ode, latent_shape=(1, 2, 2), seed=3), Objective())


def test_the_mean_over_dimensions_is_the_sum_over_their_number() -> None:
    model = fake()
    whole, mean = roll(model), roll(model, reduction="mean")
    torch.testing.assert_close(4 * mean.log_prob, whole.log_prob, rtol=1e-5, atol=1e-5)
    again = sampler_of(model, reduction="mean").replay(mean)
    torch.testing.assert_close(again, mean.log_prob, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_stored_latents_are_what_happened(dtype: torch.dtype) -> None:
    """log p is the density of the stored latent, given the stored one: torch.distributions."""
    model = FakeModel()
    trajectory = roll(model, dtype=dtype)
    steps = transitions()
    condition = trajectory.condition[trajectory.group]
    for k in range(NUM_STEPS):
        x, x_next = (trajectory.latents[:, i].float() for i in (k, k + 1))
        with torch.no_grad():
            velocity = model.predict(x, steps.times[k].float().expand(len(x)), condition)
        mean = steps.a[k].float() * x + steps.b[k].float() * velocity
        normal = torch.distributions.Normal(mean, float(steps.std[k]))
        expected = normal.log_prob(x_next).flatten(1).sum(1)  # type: ignore[no-untyped-call]
        torch.testing.assert_close(trajectory.log_prob[:, k], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_kl_to_a_reference(reduction: Reduction) -> None:
    model, other = FakeModel(), FakeModel(seed=1)
    trajectory = roll(model, reference=Forward(other), reduction=reduction)
    assert trajectory.reference_kl is not None
    steps = transitions()
    condition = trajectory.condition[trajectory.group]
    for k in range(NUM_STEPS):
        x = trajectory.latents[:, k]
        t = steps.times[k].float().expand(len(x))
        with torch.no_grad():
            mine, theirs = (
                torch.distributions.Normal(
                    steps.a[k].float() * x + steps.b[k].float() * net.predict(x, t, condition),
                    float(steps.std[k]),
                )
                for net in (model, other)
            )
        kl = torch.distributions.kl_divergence(mine, theirs).flatten(1)
        expected = kl.sum(1) if reduction == "sum" else kl.mean(1)
        torch.testing.assert_close(trajectory.reference_kl[:, k], expected, rtol=1e-4, atol=1e-6)


def test_no_gradient_and_no_reference_where_none_is_asked_for() -> None:
    model = FakeModel()
    trajectory = roll(model)
    assert trajectory.reference_kl is None
    assert not trajectory.latents.requires_grad
    assert model.calls == [(16, False)] * NUM_STEPS


def test_groups_get_their_own_condition() -> None:
    """Swapping the groups swaps the samples' conditions, and nothing else."""
    model = FakeModel()
    straight, swapped = roll(model), roll(model, group=1 - GROUP)
    assert torch.equal(straight.latents[:, 0], swapped.latents[:, 0])
    assert not torch.allclose(straight.final, swapped.final)
    twice = roll(model, group=torch.zeros_like(GROUP))
    torch.testing.assert_close(twice.final[:8], straight.final[:8], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(twice.final[8:], swapped.final[8:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("guidance", [2.5, 0.5])
def test_guidance_extrapolates_from_the_empty_text(guidance: float) -> None:
    model = FakeModel()
    condition = model.encode(["red", "green"])
    x, t = torch.randn((2, 1, 2, 2), generator=torch.Generator().manual_seed(0)), torch.ones(2) / 2
    with torch.no_grad():
        plain = model.predict(x, t, condition)
        empty = model.predict(x, t, model.encode(["", ""]))
        found = Forward(model, guidance=guidance)(x, t, condition)
    torch.testing.assert_close(found, empty + guidance * (plain - empty))


def test_the_unconditional_branch_is_not_in_the_graph() -> None:
    model = FakeModel()
    condition = model.encode(["red"])
    x, t = torch.ones(1, 1, 2, 2), torch.ones(1) / 2
    forward = Forward(model, guidance=2.0)
    found = forward(x, t, condition)
    assert model.calls == [(1, True), (1, False)]
    torch.autograd.backward(found.sum())
    guided = [copy.deepcopy(p.grad) for p in model.transformer.parameters()]
    model.transformer.zero_grad()
    torch.autograd.backward(2.0 * model.predict(x, t, condition).sum())
    plain = [p.grad for p in model.transformer.parameters()]
    for one, two in zip(guided, plain, strict=True):
        assert one is not None
        assert two is not None
        torch.testing.assert_close(one, two)


def test_the_empty_text_is_encoded_once() -> None:
    model = FakeModel()
    roll(model, guidance=2.0, micro_batch=4)
    assert model.encoded == [("red", "green"), ("",)]


def test_without_guidance_there_is_no_second_pass() -> None:
    model = FakeModel()
    roll(model, guidance=1.0)
    assert len(model.calls) == NUM_STEPS
    assert model.encoded == [("red", "green")]


def test_autocast_changes_the_network_and_not_the_dtype() -> None:
    model = FakeModel()
    condition, x, t = model.encode(["red"]), torch.ones(1, 1, 2, 2), torch.ones(1) / 2
    with torch.no_grad():
        exact = Forward(model)(x, t, condition)
        rounded = Forward(model, autocast=torch.bfloat16)(x, t, condition)
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_ode_samples_do_not_depend_on_the_batches(micro_batch: int) -> None:
    model = FakeModel()
    condition = model.encode(["red", "green", "blue", ""])
    noise = torch.randn((4, 1, 2, 2), generator=torch.Generator().manual_seed(0))
    times = time_grid(6)
    whole = sample_ode(Forward(model), condition, noise, times=times)
    parts = sample_ode(Forward(model), condition, noise, times=times, micro_batch=micro_batch)
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("solver", "factor"), [("euler", 1 - 0.5), ("heun", 1 - 0.5 + 0.125)])
def test_ode_samples_follow_the_solver_that_is_asked_for(solver: Solver, factor: float) -> None:
    """One step of dx/dt = x from 1 to 1/2: Heun adds the term of second order."""

    def velocity(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return x

    times = torch.tensor([1.0, 0.5, 0.5])  # Heun's last step is Euler's: here one of no length
    condition, noise = FakeModel().encode(["red"]), torch.ones(1, 1, 2, 2)
    found = sample_ode(velocity, condition, noise, times=times, solver=solver)
    torch.testing.assert_close(found, factor * noise)


def test_ode_samples_follow_a_constant_velocity() -> None:
    """With v constant, x0 = noise - v whatever the solver."""
    condition = FakeModel().encode(["red"])
    noise = torch.ones(1, 1, 2, 2)

    def velocity(x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return torch.full_like(x, 0.25)

    found = sample_ode(velocity, condition, noise, times=time_grid(4))
    torch.testing.assert_close(found, noise - 0.25)
