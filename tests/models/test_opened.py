"""Models of the user's own, and their networks: which is trained, which are frozen and hashed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from ddrl.builders.identity import base_parts, encoder_hash
from ddrl.diffusion.process import RectifiedFlow
from ddrl.errors import UsageError
from ddrl.models.adapter.opened import METHODS, OpenedModel


class Inner:
    """A model whose networks are held twice: alone, and together in one module."""

    process = RectifiedFlow()

    def __init__(self, scale: float = 1.0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.whole = nn.ModuleDict({"net": nn.Linear(2, 2), "text": nn.Linear(2, 2)})
        self.transformer = self.whole["net"]
        self.words = self.whole["text"]
        self.scale = scale
        self.makes_clips = True

    def __getattr__(self, name: str) -> Any:
        if name in METHODS:
            return lambda *_: None
        raise AttributeError(name)


def test_what_is_not_trained_is_frozen() -> None:
    model = OpenedModel(Inner())
    assert model.transformer.weight.requires_grad
    assert not model.inner.words.weight.requires_grad
    assert model.frozen_parts() == [model.inner.words]
    assert model.is_video()
    assert not any(module.training for module in model.inner.whole.children())


def test_its_networks_and_settings_are_what_it_is() -> None:
    model, other = OpenedModel(Inner()), OpenedModel(Inner(scale=2.0))
    assert set(base_parts(model)) == {"transformer", "words", "settings"}
    same = OpenedModel(Inner())
    assert base_parts(model) == base_parts(same)
    assert encoder_hash(model) == encoder_hash(same)
    changed = {n for n, v in base_parts(other).items() if v != base_parts(model)[n]}
    assert changed == {"settings"}
    assert encoder_hash(other) != encoder_hash(model)
    with torch.no_grad():
        same.inner.words.weight.add_(1)
    assert encoder_hash(same) != encoder_hash(model)


def test_a_copy_has_a_network_of_its_own() -> None:
    model = OpenedModel(Inner())
    frozen = copy.deepcopy(model, {id(part): part for part in model.frozen_parts()})
    assert frozen.transformer is frozen.inner.transformer
    assert frozen.transformer is not model.transformer
    assert frozen.inner.words is model.inner.words


def test_it_is_not_offloaded() -> None:
    with pytest.raises(UsageError, match="is for pipelines"):
        OpenedModel(Inner()).offload(torch.device("cpu"))
