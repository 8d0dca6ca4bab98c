"""The guard of tests/conftest.py, and its checks of shapes, do catch something."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import jaxtyping
import pytest
import torch
from tests.conftest import CHECKED
from tests.torch_state import TorchState


def test_nothing_changed() -> None:
    state = TorchState.capture()
    torch.randn(3, generator=torch.Generator().manual_seed(0))
    assert state.changes() == []


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        (lambda: torch.randn(1), "global generator"),
        (lambda: torch.manual_seed(7), "global generator"),
        (lambda: torch.set_default_dtype(torch.float64), "default dtype"),
        (lambda: torch.set_num_threads(torch.get_num_threads() + 1), "threads"),
    ],
    ids=["draw", "seed", "dtype", "threads"],
)
def test_a_change_is_named_and_undone(change: Callable[[], object], phrase: str) -> None:
    state = TorchState.capture()
    change()
    found = state.changes()
    state.restore()
    assert len(found) == 1
    assert phrase in found[0]
    assert state.changes() == []


def test_shapes_are_checked_in_these_tests() -> None:
    for name in CHECKED:
        loader = getattr(importlib.import_module(name), "__loader__", None)
        assert type(loader).__module__.startswith(jaxtyping.__name__), name
