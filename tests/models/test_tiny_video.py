"""The embedded model on clips: words, patches of space and time, a first frame that is given."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ddrl.errors import DataError, UsageError
from ddrl.models.base import DiffusionModel
from ddrl.models.tiny.config import TinyConfig
from ddrl.models.tiny.model import MAX_WORDS, TinyCondition, TinyModel
from ddrl.models.tiny.video_networks import MEAN, SPREAD
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.training.forward import Forward

CLIPS = TinyConfig(
    vocabulary=("a", "left", "moving", "one", "right", "two"),
    height=4,
    columns=6,
    network="dit",
    width=16,
    depth=2,
    heads=2,
    patch=2,
    frames=4,
    patch_frames=2,
)
GIVEN = dataclasses.replace(CLIPS, given_frames=1)
COLOUR = dataclasses.replace(CLIPS, channels=3, patch_frames=4)
CONFIGS = pytest.mark.parametrize("config", [CLIPS, GIVEN, COLOUR], ids=["clips", "given", "rgb"])
TEXTS = ("a one moving left", "", "a two moving right")


def shaken(config: TinyConfig, kind: type[TinyModel] = TinyModel) -> TinyModel:
    """A model whose weights are all away from 0."""
    model, rng = kind(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.transformer.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
    return model


def pixels(config: TinyConfig, num: int = 3) -> Tensor:
    rng = torch.Generator().manual_seed(2)
    grey = torch.rand((num, config.frames, config.channels, 4, 6), generator=rng)
    return grey.expand(-1, -1, 3, -1, -1)


def condition(model: TinyModel) -> TinyCondition:
    count = model.config.given_frames
    first = pixels(model.config)[:, :count] if count else None
    return model.encode(TEXTS, first_frames=first)


class AnyText(TinyModel):
    """Takes unknown words for a known one, since the contract asks for any text."""

    def _lookup(self, piece: str, text: str) -> int:
        return super()._lookup(piece if piece in self.config.vocabulary else "a", text)


@CONFIGS
def test_it_keeps_the_contract(config: TinyConfig) -> None:
    model: DiffusionModel = shaken(config, AnyText)
    assert isinstance(model, TinyModel)
    shape = model.latent_shape(4, 6, 4)
    assert shape == (config.channels, 4 - config.given_frames, 4, 6)
    media = pixels(config)
    check_adapter(AdapterCase(model, condition(model), shape, media, round_trip=1e-6))


@CONFIGS
def test_a_fresh_model_is_a_line_in_its_latents_alone(config: TinyConfig) -> None:
    """Its prediction has one value where the latents have one, whatever the text and the place."""
    model = TinyModel(config)
    t = torch.full((3,), 0.5)
    at = [
        model.predict(torch.full((3, *model.latent_shape(4, 6, 4)), level), t, condition(model))
        for level in (-1.0, 0.0, 1.0)
    ]
    assert all(float(one.detach().std()) < 1e-6 for one in at)
    torch.testing.assert_close(at[2] - at[1], at[1] - at[0])


@CONFIGS
def test_every_place_and_moment_is_seen(config: TinyConfig) -> None:
    """Turning the latents round in any way is not turning the velocity round."""
    model, cond = shaken(config), condition(shaken(config))
    x = torch.randn(3, *model.latent_shape(4, 6, 4), generator=torch.Generator().manual_seed(0))
    t = torch.full((3,), 0.5)
    with torch.no_grad():
        velocity = model.predict(x, t, cond)
        for axis in (2, 3, 4):
            flipped = model.predict(x.flip(axis), t, cond).flip(axis)
            assert float((flipped - velocity).abs().max()) > 1e-3
        # What is far away in space and time matters everywhere.
        x[:, :, 0, 0, 0] += 1
        moved = (model.predict(x, t, cond) - velocity).abs()
    assert float(moved[:, :, -1, -1, -1].min()) > 0


def test_a_patch_goes_where_it_came_from() -> None:
    """With one block of zeros for a body, a network of identities gives its input back."""
    model = TinyModel(dataclasses.replace(CLIPS, width=8, depth=1, heads=1))
    network = model.transformer
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for layer in (network.into, network.out):
            assert isinstance(layer, torch.nn.Linear)
            layer.weight.copy_(torch.eye(8))
        x = torch.randn((2, 1, 4, 4, 6), generator=torch.Generator().manual_seed(0))
        out = model.predict(x, torch.zeros(2), model.encode(["a", "a"]))
    # At t = 0 the linear estimate of the velocity is -x, and the network sees latents of mean 0 and
    # spread 1. The layer norm in between works on a patch of 2 x 2 x 2 values.
    patches = ((x - MEAN) / SPREAD).reshape(2, 1, 2, 2, 2, 2, 3, 2)
    dims = (3, 5, 7)
    mean, var = patches.mean(dims, keepdim=True), patches.var(dims, keepdim=True, unbiased=False)
    wanted = ((patches - mean) / (var + 1e-5).sqrt()).reshape(x.shape)
    torch.testing.assert_close(out, wanted - x)


def test_words_are_looked_up() -> None:
    model = TinyModel(CLIPS)
    label = model.encode(["a one moving left", "", "left"]).label
    assert label.tolist() == [[1, 4, 3, 2, 0, 0, 0, 0], [0] * 8, [2] + [0] * 7]
    assert model.encode([]).label.shape == (0, MAX_WORDS)
    empty = model.encode([""])
    kept = model.encode(TEXTS).where(torch.tensor([True, False, False]), empty)
    assert not kept.label[0].any()
    assert kept.label[2].tolist() == model.encode(TEXTS).label[2].tolist()


@pytest.mark.parametrize(
    ("prompt", "message", "hint"),
    [
        ("a one moving lift", "word 'lift' of the prompt 'a one moving lift'", "'left'?"),
        ("elephant", "does not know the prompt 'elephant'", "it knows 'a', 'left'"),
        ("a " * 9, "has 9 words, and the model takes 8", "trained on prompts such as"),
    ],
)
def test_prompts_that_it_does_not_know(prompt: str, message: str, hint: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        TinyModel(CLIPS).encode(["a one", prompt])
    assert hint in caught.value.hint


def test_the_first_frame_is_kept_and_matters() -> None:
    model, media = shaken(GIVEN), pixels(GIVEN)
    latents, cond = model.encode_media(media), condition(shaken(GIVEN))
    assert latents.shape == (3, 1, 3, 4, 6)
    torch.testing.assert_close(model.decode(latents, cond), media)
    assert model.given_latents == model.given_frames == 1
    other = dataclasses.replace(cond, given=-cond.given if cond.given is not None else None)
    t = torch.full((3,), 0.5)
    with torch.no_grad():
        change = model.predict(latents, t, cond) - model.predict(latents, t, other)
    assert float(change.abs().amin((1, 2)).max()) > 0
    # Guidance leaves the frame alone.
    with torch.no_grad():
        guided = Forward(model, guidance=3.0)(latents, t, cond)
        nothing = dataclasses.replace(cond, label=torch.zeros_like(cond.label))
        plain = model.predict(latents, t, nothing)
        full = model.predict(latents, t, cond)
    torch.testing.assert_close(guided, plain + 3 * (full - plain))


def test_frames_that_do_not_fit() -> None:
    model = TinyModel(GIVEN)
    noise, t = torch.zeros(1, 1, 3, 4, 6), torch.zeros(1)
    with pytest.raises(DataError, match="continues a first frame"):
        model.predict(noise, t, model.encode(["a"]))
    with pytest.raises(DataError, match="1 first frame per text"):
        model.encode(["a"], first_frames=torch.zeros(1, 2, 3, 4, 6))
    with pytest.raises(DataError, match="takes no first frames"):
        TinyModel(CLIPS).encode(["a"], first_frames=torch.zeros(1, 1, 3, 4, 6))
    for size in ((4, 6, 1), (4, 6, 8), (6, 4, 4)):
        with pytest.raises(DataError, match="clips of 4 frames of 4x6"):
            model.latent_shape(*size)


@pytest.mark.parametrize(
    "change", [{"network": "mlp"}, {"patch": 3}, {"patch_frames": 3}, {"heads": 3}]
)
def test_a_network_that_does_not_fit(change: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="does not fit clips of 4 frames of 4x6") as caught:
        TinyModel(dataclasses.replace(CLIPS, **change))  # type: ignore[arg-type]  # integers all
    assert "patch_frames the frames" in caught.value.hint


@CONFIGS
def test_what_is_loaded_is_what_was_saved(config: TinyConfig, tmp_path: Path) -> None:
    model = shaken(config)
    model.save(tmp_path)
    loaded = TinyModel.load(tmp_path)
    assert loaded.config == config
    weights = loaded.transformer.state_dict()
    assert all(torch.equal(v, weights[n]) for n, v in model.transformer.state_dict().items())


def test_an_image_model_s_config_from_before_clips_is_read(tmp_path: Path) -> None:
    old = TinyConfig(("one",), 4, 6, width=16, depth=1)
    TinyModel(old).save(tmp_path)
    config = tmp_path / "config.json"
    text = config.read_text()
    for key, value in (("frames", 1), ("patch_frames", 1), ("given_frames", 0)):
        assert f'"{key}": {value}' in text
        text = text.replace(f',\n "{key}": {value}', "")
    config.write_text(text)
    assert TinyModel.load(tmp_path).config == old


def test_pixels_of_clips_stay_between_black_and_white() -> None:
    config = TinyConfig(("a",), 4, 4, network="dit", width=16, depth=1, heads=2, frames=2)
    latents = torch.tensor([-3.0, -1.0, 0.0, 3.0])[None, None, None].expand(1, 1, 2, 4, 4)
    found = TinyModel(config).decode(latents)
    assert found.shape == (1, 2, 3, 4, 4)
    assert found[0, 0, 0, 0].tolist() == [0.0, 0.0, 0.5, 1.0]
