"""Kernels of a rollout's forward pass at a release's size, counted on fake tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from benchmarks.random_weights import make_recipe
from torch.utils._python_dispatch import TorchDispatchMode

from ddrl.builders.sampler import build_forward, drawing_forward
from ddrl.jobs.plan import check_recipe
from ddrl.models.adapter.blank import blank_condition
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.rollout_weights import merged_weights
from ddrl.models.sketch import materialize

NO_KERNEL = {"prim.device.default", "aten._unsafe_view.default", "aten.detach.default"}


class Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that compute or copy something."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = Counter[str]()

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if not function.is_view and str(function) not in NO_KERNEL:
            self.count[str(function)] += 1
        return function(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def counted() -> Callable[[bool], Counter[str]]:
    """SD3.5-Medium at 512 pixels, 8 samples, a bfloat16 base with an adapter of rank 32."""
    switches = ["model.lora.rank=32", "run.micro_batch=8"]
    recipe = make_recipe("stabilityai/stable-diffusion-3.5-medium", (512, 512, 1), switches)
    model, shape = check_recipe(recipe)
    assert isinstance(model, DiffusersModel)
    forward = build_forward(recipe, model)
    found = {}
    with materialize([model.transformer, *model.frozen_parts()]), torch.no_grad():
        condition = blank_condition(model, 8, shape)
        assert condition is not None
        x, t = torch.zeros(8, *shape), torch.full((8,), 0.5)
        with Kernels() as plain:
            forward.plain(x, t, condition)
        with merged_weights(model.transformer, is_traced=True), Kernels() as merged:
            drawing_forward(recipe, forward).plain(x, t, condition)
        found = {False: plain.count, True: merged.count}
    return found.__getitem__


def test_a_merged_forward_has_few_kernels(counted: Callable[[bool], Counter[str]]) -> None:
    """An adapter's two matrices and their sum are gone, and with them the casts."""
    plain, merged = counted(False), counted(True)
    assert merged.total() <= 2400
    assert plain.total() >= 3400
    products = ("aten.mm.default", "aten.addmm.default")
    assert sum(plain[name] for name in products) > 2 * sum(merged[name] for name in products)
    assert merged["aten._to_copy.default"] <= 250
    assert plain["aten._to_copy.default"] > 600
