"""The embedded model: gradients, batches, files, prompts, pixels."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ddrl.errors import DataError, UsageError, WeightsError
from ddrl.models.base import DiffusionModel
from ddrl.models.tiny.config import TinyConfig
from ddrl.models.tiny.model import TinyCondition, TinyModel

MLP = TinyConfig(("one", "two", "three"), 4, 6, width=32, depth=2)
DIT = dataclasses.replace(MLP, network="dit", width=16, heads=2, patch=2)
COLOUR = dataclasses.replace(DIT, channels=3)
CONFIGS = pytest.mark.parametrize("config", [MLP, DIT, COLOUR], ids=["mlp", "dit", "colour"])


def shaken(config: TinyConfig) -> TinyModel:
    """A model whose weights are all away from 0."""
    model, rng = TinyModel(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.transformer.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
    return model


def inputs(model: TinyModel, size: int = 4) -> tuple[Tensor, Tensor, TinyCondition]:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn((size, model.config.channels, 4, 6), generator=rng)
    return x, torch.rand(size, generator=rng), model.encode(["one", "", "three", "two"][:size])


@CONFIGS
def test_it_is_a_diffusion_model(config: TinyConfig) -> None:
    model: DiffusionModel = TinyModel(config)
    assert model.latent_shape(4, 6) == (config.channels, 4, 6)
    assert model.time_shift((1, 4, 6)) == 1.0


@CONFIGS
def test_a_fresh_model_predicts_zero(config: TinyConfig) -> None:
    model = TinyModel(config)
    velocity = model.predict(*inputs(model))
    assert velocity.shape == (4, config.channels, 4, 6)
    assert not velocity.any()


@CONFIGS
def test_gradients_reach_exactly_the_trainable_parameters(config: TinyConfig) -> None:
    model = shaken(config)
    names = [name for name, _ in model.transformer.named_parameters()]
    frozen = set(names[::3])
    for name, parameter in model.transformer.named_parameters():
        parameter.requires_grad_(name not in frozen)
    torch.autograd.backward(model.predict(*inputs(model)).pow(2).sum())
    reached = {
        name
        for name, p in model.transformer.named_parameters()
        if p.grad is not None and bool(p.grad.any())
    }
    assert reached == set(names) - frozen


@CONFIGS
def test_a_batch_of_four_is_four_of_one(config: TinyConfig) -> None:
    model = shaken(config)
    x, t, condition = inputs(model)
    with torch.no_grad():
        whole = model.predict(x, t, condition)
        rows = [slice(i, i + 1) for i in range(4)]
        single = torch.cat([model.predict(x[row], t[row], condition[row]) for row in rows])
    assert float(whole.abs().max()) > 0.01
    torch.testing.assert_close(single, whole, rtol=1e-6, atol=1e-6)


@CONFIGS
def test_time_and_prompt_and_place_matter(config: TinyConfig) -> None:
    model = shaken(config)
    x, t, condition = inputs(model)
    with torch.no_grad():
        base = model.predict(x, t, condition)
        others = [
            model.predict(x, 1 - t, condition),
            model.predict(x, t, model.encode(["two"] * 4)),
            model.predict(x.flip(-1), t, condition).flip(-1),
        ]
    for other in others:
        assert float((other - base).abs().max()) > 1e-3


@CONFIGS
def test_a_seed_makes_the_weights_and_touches_nothing_else(config: TinyConfig) -> None:
    before = torch.get_rng_state()
    one, two, other = TinyModel(config), TinyModel(config), TinyModel(config, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    weights = one.transformer.state_dict()
    assert all(torch.equal(v, weights[n]) for n, v in two.transformer.state_dict().items())
    assert any(not torch.equal(v, weights[n]) for n, v in other.transformer.state_dict().items())


@CONFIGS
def test_what_is_loaded_is_what_was_saved(config: TinyConfig, tmp_path: Path) -> None:
    model = shaken(config)
    model.save(tmp_path / "new" / "folder")
    loaded = TinyModel.load(tmp_path / "new" / "folder")
    assert loaded.config == config
    weights = loaded.transformer.state_dict()
    assert weights.keys() == model.transformer.state_dict().keys()
    assert all(torch.equal(v, weights[n]) for n, v in model.transformer.state_dict().items())


def broken(folder: Path, how: str) -> None:
    config, weights = folder / "config.json", folder / "model.safetensors"
    values = json.loads(config.read_text())
    if how == "no folder":
        for path in (config, weights):
            path.unlink()
        folder.rmdir()
    elif how == "no weights":
        weights.unlink()
    elif how == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:-20])
    elif how == "empty weights":
        weights.write_bytes(b"")
    elif how == "truncated config":
        config.write_text(config.read_text()[:-10])
    elif how == "another shape":
        config.write_text(json.dumps({**values, "width": 64}))
    elif how == "another network":
        config.write_text(json.dumps({**values, "network": "dit", "width": 16, "heads": 2}))
    elif how == "unknown key":
        config.write_text(json.dumps({**values, "colour": "red"}))
    elif how == "no vocabulary":
        del values["vocabulary"]
        config.write_text(json.dumps(values))
    elif how == "another family":
        config.write_text(json.dumps({**values, "family": "sd3"}))
    else:
        config.write_text(how)


@pytest.mark.parametrize(
    "how",
    [
        "no folder",
        "no weights",
        "truncated weights",
        "empty weights",
        "truncated config",
        "another shape",
        "another network",
        "unknown key",
        "no vocabulary",
        "another family",
        "[]",
        '"text"',
        "null",
        "7",
        '{"family": "tiny"}',
    ],
)
def test_a_broken_or_foreign_folder(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    TinyModel(MLP).save(folder)
    broken(folder, how)
    with pytest.raises(WeightsError) as caught:
        TinyModel.load(folder)
    assert str(folder) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 3


def test_the_other_family_is_named(tmp_path: Path) -> None:
    TinyModel(MLP).save(tmp_path)
    broken(tmp_path, "another family")
    with pytest.raises(WeightsError, match="family 'sd3', not 'tiny'"):
        TinyModel.load(tmp_path)


def test_prompts_are_looked_up() -> None:
    model = TinyModel(MLP)
    assert model.encode(["", "one", "three", "one"]).label.tolist() == [0, 1, 3, 1]
    assert len(model.encode([])) == 0


@pytest.mark.parametrize(
    ("prompt", "hint"),
    [("tree", "did you mean 'three'?"), ("elephant", "it knows 'one', 'two', 'three'")],
)
def test_an_unknown_prompt_has_a_hint(prompt: str, hint: str) -> None:
    with pytest.raises(DataError, match=f"does not know the prompt '{prompt}'") as caught:
        TinyModel(MLP).encode(["one", prompt])
    assert caught.value.hint == hint


@pytest.mark.parametrize("config", [MLP, COLOUR], ids=["grey", "colour"])
def test_pixels_survive_the_round_trip(config: TinyConfig) -> None:
    model = TinyModel(config)
    media = torch.rand((5, 3, 4, 6), generator=torch.Generator().manual_seed(0))
    if config.channels == 1:
        media = media[:, :1].expand(-1, 3, -1, -1)
    latents = model.encode_media(media)
    assert latents.shape == (5, config.channels, 4, 6)
    assert float(latents.min()) >= -1
    assert float(latents.max()) <= 1
    torch.testing.assert_close(model.decode(latents), media)
    white, black = (
        model.encode_media(torch.ones(1, 3, 4, 6)),
        model.encode_media(torch.zeros(1, 3, 4, 6)),
    )
    assert torch.equal(white, torch.ones_like(white))
    assert torch.equal(black, -torch.ones_like(black))


def test_pixels_stay_in_range() -> None:
    latents = torch.linspace(-3, 3, 24).reshape(1, 1, 4, 6)
    pixels = TinyModel(MLP).decode(latents)
    assert pixels.shape == (1, 3, 4, 6)
    assert float(pixels.min()) == 0
    assert float(pixels.max()) == 1


@pytest.mark.parametrize("size", [(4, 4, 1), (6, 4, 1), (4, 6, 2)])
def test_one_size_is_made(size: tuple[int, int, int]) -> None:
    with pytest.raises(DataError, match="images of 4x6"):
        TinyModel(MLP).latent_shape(*size)


def test_media_of_another_size_are_refused() -> None:
    with pytest.raises(DataError, match="images of 4x6"):
        TinyModel(MLP).encode_media(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("change", [{"width": 15}, {"patch": 3}, {"patch": 4}])
def test_a_dit_that_does_not_fit(change: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="does not fit") as caught:
        TinyModel(dataclasses.replace(DIT, **change))  # type: ignore[arg-type]  # integers all
    assert "divide" in caught.value.hint


def test_a_condition_can_be_indexed_and_dropped() -> None:
    condition = TinyModel(MLP).encode(["one", "two", "three"])
    assert condition[torch.tensor([2, 2, 0])].label.tolist() == [3, 3, 1]
    empty = TinyModel(MLP).encode([""])
    mask = torch.tensor([True, False, True])
    assert condition.where(mask, empty).label.tolist() == [0, 2, 0]
