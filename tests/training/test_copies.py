"""Copies to the device that wait: none for each step, micro-batch or sample.

The device is PyTorch's "meta", which computes shapes alone. A number read back from it is an error,
so that a rollout and an update that pass have not waited for one.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.fakes import FakeCondition, FakeModel, Toy
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ddrl import seeding as noise
from ddrl.objective.advantage import group_advantage
from ddrl.objective.loss import Objective
from ddrl.records import Condition
from ddrl.training.forward import Forward
from ddrl.training.rollout import Sampler
from ddrl.training.update import Gradient

META = torch.device("meta")


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations that take an array from the CPU to the device, and wait for it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        results = [x for x in tree_leaves(made) if isinstance(x, Tensor)]
        is_from_cpu = any(x.device.type == "cpu" and x.ndim for x in given)
        is_there = any(x.device.type == "meta" for x in (*given, *results))
        waits = not (kwargs or {}).get("non_blocking") and not (
            function is torch.ops.aten.copy_.default and len(args) > 2 and args[2]
        )
        self.count += is_from_cpu and is_there and waits
        return made


class Scale(FakeModel):
    """One trained number, on the device."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros((), device=META))
        self.transformer = nn.ParameterList([self.scale])

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        return x_t * self.scale + t.reshape(-1, *[1] * (x_t.ndim - 1))


def test_a_trajectory_on_the_host_is_the_same_and_lies_there() -> None:
    """On the CPU both are memory of one kind; on "meta" the one is there, the other is not."""
    toy = Toy(num_steps=3, micro_batch=3)
    found = []
    for on_host in (False, True):
        trainer = toy.trainer()
        trainer.sampler.on_host = on_host
        found.append([trainer.iteration() for _ in range(2)])
    drop = {"seconds", "seconds/rollout", "seconds/reward", "seconds/update"}
    plain, hosted = ([{k: v for k, v in m.items() if k not in drop} for m in f] for f in found)
    assert plain == hosted
    sampler = Sampler(
        Forward(Scale()),
        toy.transitions,
        latent_shape=(1, 4, 4),
        seed=1,
        storage_dtype=torch.bfloat16,
        device=META,
    )
    condition, group = FakeCondition(torch.zeros(1, dtype=torch.long)).to(META), torch.zeros(2)
    assert sampler.rollout(condition, group.long(), step=0).latents.device == META


def waits(
    *, steps: int = 4, samples: int = 8, micro_batch: int = 0, steps_per_pass: int = 1, **more: Any
) -> tuple[int, int]:
    """Of a rollout, and of an update's policy term."""
    objective = Objective(**more)
    sampler = Sampler(
        Forward(Scale()),
        Toy(num_steps=steps).transitions,
        latent_shape=(1, 4, 4),
        seed=1,
        micro_batch=micro_batch,
        device=META,
    )
    reference = Forward(Scale()) if objective.regularizer == "reference" else None
    gradient = Gradient(sampler, objective, steps_per_pass=steps_per_pass, reference=reference)
    group = torch.arange(samples) // 4
    condition = FakeCondition(torch.arange(samples // 4)).to(META)
    advantages = group_advantage(torch.rand(samples), group, torch.ones(samples, dtype=torch.bool))
    with Waits() as rollout:
        trajectory = sampler.rollout(condition, group, step=0)
    with Waits() as update:
        gradient.policy(trajectory, advantages)
    return rollout.count, update.count


@pytest.mark.parametrize("is_ahead", [False, True], ids=["drawn at once", "drawn ahead"])
@pytest.mark.parametrize("regularizer", ["data", "reference"])
def test_none_grows_with_the_work(
    is_ahead: bool, regularizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.random.fork_rng(devices=[]):
        monkeypatch.setattr(noise, "SMALL", 1 if is_ahead else 10**6)
        few = waits(regularizer=regularizer)
        assert waits(regularizer=regularizer, steps=12) == few
        assert waits(regularizer=regularizer, micro_batch=2) == few
        assert waits(regularizer=regularizer, samples=40, micro_batch=4) == few
        assert waits(regularizer=regularizer, steps_per_pass=3) == few
    assert few[0] <= 5
    assert few[1] <= 5
