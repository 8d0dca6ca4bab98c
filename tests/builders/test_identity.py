"""Hashes of bases and conditions: which changes they see, and which are none."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from tests.models.families.test_sd3 import build_pipeline
from torch.testing._internal.two_tensor import TwoTensor

from ddrl.builders.identity import _sums, _tensors_hash, base_parts, condition_hash, weights_hash
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.pretrained import load_model
from ddrl.models.tiny.config import TinyConfig
from ddrl.models.tiny.model import TinyCondition, TinyModel


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sd3")
    build_pipeline(root / "parts").save_pretrained(root / "model")
    return root / "model"


@pytest.fixture
def model(pipeline: Path) -> DiffusersModel:
    return load_model(pipeline)


def test_an_adapter_is_no_part_of_the_base(model: DiffusersModel) -> None:
    before, weights = base_parts(model), weights_hash(model)
    network = model.transformer
    with torch.random.fork_rng(devices=[]):
        network.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))  # type: ignore[operator]
    assert any("base_layer" in name for name, _ in network.named_parameters())
    assert base_parts(model) == before
    assert weights_hash(model) == weights


def test_what_turns_the_output_into_a_velocity_counts(model: DiffusersModel) -> None:
    before, parts = weights_hash(model), base_parts(model)
    model.pipeline.scheduler.register_to_config(shift=7.5)
    assert weights_hash(model) != before
    assert [n for n, h in base_parts(model).items() if h != parts[n]] == ["scheduler"]


def test_a_frozen_part_that_is_changed_is_hashed_again(model: DiffusersModel) -> None:
    before = base_parts(model)
    model.vae.requires_grad_(False)
    assert base_parts(model) == before
    with torch.no_grad():
        next(model.vae.parameters()).add_(1)
    assert [n for n, h in base_parts(model).items() if h != before[n]] == ["vae"]


@pytest.mark.parametrize(
    ("key", "value", "changed"),
    [
        ("name_or_path", "elsewhere", []),
        ("transformers_version", "0.0.1", []),
        ("hidden_act", "relu", ["text_encoder"]),
    ],
)
def test_what_a_folder_is_called_does_not_count(
    key: str, value: str, changed: list[str], pipeline: Path, model: DiffusersModel
) -> None:
    before, other = base_parts(model), load_model(pipeline)
    setattr(other.pipeline.text_encoder.config, key, value)
    assert [n for n, h in base_parts(other).items() if h != before[n]] == changed


def test_the_settings_of_the_embedded_base_count() -> None:
    config = TinyConfig(("one", "two"), 8, 8, width=8, depth=1)
    one = TinyModel(config, seed=0)
    assert base_parts(one) == base_parts(TinyModel(config, seed=0))
    assert base_parts(one) != base_parts(TinyModel(config, seed=1))
    other = TinyModel(dataclasses.replace(config, vocabulary=("two", "one")), seed=0)
    other.transformer.load_state_dict(one.transformer.state_dict())
    assert base_parts(one) != base_parts(other), "the same weights, for other words"


def test_given_frames_are_part_of_a_condition() -> None:
    ids = torch.tensor([1, 2])
    plain = condition_hash(TinyCondition(ids))
    black = condition_hash(TinyCondition(ids, given=torch.zeros(2, 1, 1, 2, 2)))
    white = condition_hash(TinyCondition(ids, given=torch.ones(2, 1, 1, 2, 2)))
    assert len({plain, black, white, condition_hash(TinyCondition(ids.flip(0)))}) == 4


def test_shape_and_kind_of_numbers_count() -> None:
    """The same bytes, read otherwise."""
    ids = torch.arange(4)
    found = [ids, ids.view(2, 2), ids.view(torch.float64)]
    assert len({condition_hash(TinyCondition(one)) for one in found}) == 3


def test_a_tensor_that_is_made_of_others_is_hashed_by_them() -> None:
    """As quantised weights are: integers and their scales, which no view of bytes shows."""
    numbers, scales = torch.arange(6.0).reshape(2, 3), torch.ones(2, 3)

    def hashed(one: torch.Tensor, other: torch.Tensor) -> str:
        made: Any = TwoTensor
        return _tensors_hash([("weight", made(one, other))])

    found = hashed(numbers, scales)
    assert hashed(numbers.clone(), scales.clone()) == found
    assert hashed(numbers + 1, scales) != found
    assert hashed(numbers, scales * 2) != found
    assert _tensors_hash([("weight", numbers)]) != found
    assert hashed(scales, numbers) != found


def test_sums_are_of_this_tensor_and_not_of_one_before() -> None:
    """Their room is reused from chunk to chunk."""
    large = torch.arange(600_000)
    first = _sums(torch.cat([large, torch.zeros(3, dtype=torch.int64)]))
    assert torch.equal(first[:2], _sums(torch.cat([large, torch.zeros(1, dtype=torch.int64)]))[:2])
    ends = [
        _sums(torch.cat([start, torch.tensor([5])]))[-1]
        for start in (
            torch.zeros(1 << 18, dtype=torch.int64),
            torch.ones(1 << 18, dtype=torch.int64),
        )
    ]
    assert ends[0] == ends[1], "what follows the last number is 0"
