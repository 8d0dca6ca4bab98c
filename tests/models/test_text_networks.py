"""The network of words: what it predicts before it has learned, what it sees of a text."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ddrl.diffusion.kernels import make_kernel
from ddrl.diffusion.process import RectifiedFlow
from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.transition import Transitions
from ddrl.errors import DataError, UsageError
from ddrl.models.tiny.config import TinyConfig
from ddrl.models.tiny.model import TinyModel
from ddrl.models.tiny.spelling import pieces, vocabulary_of
from ddrl.models.tiny.text_networks import TextDiT

TEXTS = ('the word "ab" in red', 'the word "cab" in blue')


def config(**changes: object) -> TinyConfig:
    values: dict[str, object] = {
        "vocabulary": vocabulary_of(TEXTS),
        "height": 16,
        "columns": 48,
        "channels": 3,
        "network": "dit",
        "width": 16,
        "depth": 1,
        "heads": 2,
        "patch": 8,
        "text_length": 8,
    }
    return TinyConfig(**{**values, **changes})  # type: ignore[arg-type]


@cache
def trained() -> TinyModel:
    """With random weights everywhere."""
    model = TinyModel(config())
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for parameter in model.transformer.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def noise(num: int, seed: int = 0) -> Tensor:
    return torch.randn((num, 3, 16, 48), generator=torch.Generator().manual_seed(seed))


def test_words_stand_as_they_are_and_quoted_ones_letter_by_letter() -> None:
    assert pieces('the word "to" in red') == ["the", "word", '"t', '"o', "in", "red"]
    assert pieces('a "to"') == ["a", '"t', '"o']
    assert pieces("") == []
    assert vocabulary_of(TEXTS)[:3] == ('"a', '"b', '"c')


def test_texts_are_spelled() -> None:
    model = TinyModel(config())
    label = model.encode([*TEXTS, "", 'the word "bac" in red']).label
    assert label.shape == (4, 8)
    assert int(label[2].abs().sum()) == 0
    assert label[3, 2:5].tolist() == [2, 1, 3]  # a word that no text of the training had


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('the word "axe" in red', "the letter 'x' of the"),
        ('the word "ab" in green', "the word 'green' of the"),
        ('the word "abcabc" in red', "has 10 words and letters, and the model takes 8"),
    ],
)
def test_what_is_not_known(text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        TinyModel(config()).encode([text])


@pytest.mark.parametrize("changes", [{"network": "mlp"}, {"patch": 5}, {"heads": 3}])
def test_an_architecture_that_does_not_fit(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="does not fit images"):
        config(**changes).build()


@pytest.mark.parametrize("t", [0.0, 0.3, 0.8, 1.0])
def test_after_measuring_it_is_the_best_linear_estimate(t: float) -> None:
    """What is left over of the velocity does not depend on x_t, and is smaller than without."""
    rng = torch.Generator().manual_seed(0)
    colour = torch.tensor([0.5, -0.5])[torch.arange(512) % 2]
    x0 = colour[:, None, None, None] + 0.4 * torch.randn((512, 3, 1, 1), generator=rng)
    x0 = x0 + 0.05 * torch.randn((512, 3, 16, 48), generator=rng)
    model = TinyModel(config())
    assert isinstance(model.transformer, TextDiT)
    text = model.encode(TEXTS).label[torch.arange(512) % 2]
    model.transformer.measure(x0, text, seed=0)
    at, process = torch.full((512,), t), RectifiedFlow()
    e = noise(512, seed=1)
    x_t = process.add_noise(x0, e, at)
    with torch.no_grad():
        left = process.velocity(x0, e, at) - model.transformer(x_t, at, text)
    # Along the colour of a picture, which 768 values share, and along all else.
    shares = ((0.4**2 * 768 + 0.05**2, 1 / 768), (0.05**2, 767 / 768))
    wanted = sum(share * own / ((1 - t) ** 2 * own + t**2) for own, share in shares)
    assert float(left.square().mean()) == pytest.approx(wanted, rel=0.12)
    assert abs(float((left * x_t).mean())) < 0.05


def test_gradients_reach_what_is_trained_and_not_what_was_measured() -> None:
    model = trained()
    model.transformer.zero_grad()
    velocity = model.predict(noise(2), torch.tensor([0.3, 0.7]), model.encode(TEXTS))
    torch.autograd.backward(velocity.square().mean())
    for name, parameter in model.transformer.named_parameters():
        assert parameter.requires_grad != name.startswith(("known.", "mean.")), name
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().sum()) > 0, name


def test_samples_do_not_see_each_other() -> None:
    model, x, t = trained(), noise(4), torch.tensor([0.1, 0.4, 0.6, 0.9])
    condition = model.encode([*TEXTS, "", TEXTS[0]])
    with torch.no_grad():
        together = model.predict(x, t, condition)
        alone = [model.predict(x[i : i + 1], t[i : i + 1], condition[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-4)


def test_letters_and_words_both_matter() -> None:
    model, x, t = trained(), noise(1).expand(4, -1, -1, -1), torch.full((4,), 0.8)
    texts = [*TEXTS, 'the word "ba" in red', 'the word "ab" in blue']
    with torch.no_grad():
        velocity = model.predict(x, t, model.encode(texts))
    for other in velocity[1:]:
        assert float((other - velocity[0]).abs().mean()) > 1e-3


def test_replay_has_the_density_of_the_rollout() -> None:
    model, condition = trained(), trained().encode(TEXTS)
    sampler = Transitions.build(make_kernel("flow_sde", eta=0.7), RectifiedFlow(), time_grid(4))
    x, t = noise(2), torch.full((2,), float(sampler.times[1]))
    with torch.no_grad():
        first = model.predict(x, t, condition)
        again = model.predict(x, t, condition)
    assert torch.equal(first, again)


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = trained()
    model.save(tmp_path)
    again = TinyModel.load(tmp_path)
    assert again.config == model.config
    x, t, condition = noise(2), torch.tensor([0.2, 0.7]), model.encode(TEXTS)
    with torch.no_grad():
        assert torch.equal(again.predict(x, t, condition), model.predict(x, t, condition))


def test_a_patch_of_four_pixels() -> None:
    model = TinyModel(config(patch=4))
    velocity = model.predict(noise(2), torch.tensor([0.2, 0.7]), model.encode(TEXTS))
    assert velocity.shape == (2, 3, 16, 48)
