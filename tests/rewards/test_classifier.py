"""The embedded classifier and its reward."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
import torch

from ddrl.data.embedded.digits import digit_splits
from ddrl.errors import RewardError, WeightsError
from ddrl.models.tiny.config import TinyConfig
from ddrl.models.tiny.model import TinyModel
from ddrl.records import Prompts
from ddrl.rewards.base import make_reward
from ddrl.rewards.builtin.embedded.classifier import Architecture, Classifier, fit_classifier

ARCHITECTURES: list[Architecture] = ["mlp", "conv"]


@cache
def fitted(architecture: Architecture, seed: int = 0) -> Classifier:
    reward = digit_splits().reward
    return fit_classifier(
        reward.media,
        reward.caption_id,
        labels=reward.captions,
        architecture=architecture,
        seed=seed,
        num_steps={"mlp": 400, "conv": 100}[architecture],
    )


def prompts(texts: tuple[str, ...]) -> Prompts:
    return Prompts(torch.zeros(len(texts), dtype=torch.int64), texts, tuple({} for _ in texts))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_few_steps_recognise_digits_never_seen(architecture: Architecture) -> None:
    heldout = digit_splits().heldout
    log_prob = fitted(architecture).log_prob(heldout.media)
    torch.testing.assert_close(log_prob.exp().sum(1), torch.ones(len(heldout)))
    accuracy = (log_prob.argmax(1) == heldout.caption_id).float().mean()
    assert float(accuracy) > 0.9


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_is_frozen_and_gives_features(architecture: Architecture) -> None:
    model = fitted(architecture)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.features(torch.zeros(3, 3, 8, 8)).shape == (3, 64)


def test_a_seed_makes_the_classifier_and_touches_nothing_else() -> None:
    media = torch.rand((20, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    label = torch.arange(20) % 2

    def fit(seed: int) -> torch.Tensor:
        model = fit_classifier(
            media, label, labels=("a", "b"), architecture="mlp", seed=seed, num_steps=3
        )
        return model.head.weight

    before = torch.get_rng_state()
    assert torch.equal(fit(0), fit(0))
    assert not torch.equal(fit(0), fit(1))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_loaded_is_what_was_saved(architecture: Architecture, tmp_path: Path) -> None:
    model = fitted(architecture)
    model.save(tmp_path / "new")
    loaded = Classifier.load(tmp_path / "new")
    media = digit_splits().heldout.media[:5]
    assert torch.equal(loaded.log_prob(media), model.log_prob(media))
    assert (loaded.labels, loaded.size) == (model.labels, model.size)
    assert not loaded.training


@pytest.mark.parametrize(
    "how", ["missing", "model", "truncated", "no size", "[]", '"text"', "null", "{", "size 3"]
)
def test_a_broken_or_foreign_folder(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "classifier"
    if how == "model":
        TinyModel(TinyConfig(("a",), 4, 4)).save(folder)
    elif how != "missing":
        fitted("mlp").save(folder)
        config = folder / "config.json"
        values = json.loads(config.read_text())
        if how == "truncated":
            weights = folder / "model.safetensors"
            weights.write_bytes(weights.read_bytes()[:-9])
        elif how == "no size":
            del values["size"]
            config.write_text(json.dumps(values))
        elif how == "size 3":
            config.write_text(json.dumps({**values, "size": 3}))
        else:
            config.write_text(how)
    with pytest.raises(WeightsError, match="can't be read") as caught:
        Classifier.load(folder)
    assert str(folder) in caught.value.message
    assert "\n" not in caught.value.message


def test_the_reward_is_the_log_probability_of_the_prompt(tmp_path: Path) -> None:
    fitted("mlp").save(tmp_path)
    heldout = digit_splits().heldout
    media, texts = heldout.media[:50], heldout.texts()[:50]
    reward = make_reward("classifier", {"weights": str(tmp_path)})
    found = reward.score(media, prompts(texts))
    log_prob = fitted("mlp").log_prob(media)
    expected = log_prob[torch.arange(50), heldout.caption_id[:50]]
    torch.testing.assert_close(found, expected.clamp_min(-20))
    wrong = tuple("one" if text != "one" else "two" for text in texts)
    assert float(reward.score(media, prompts(wrong)).mean()) < float(found.mean()) - 1
    assert float(found.max()) <= 0


def test_the_floor_bounds_the_reward(tmp_path: Path) -> None:
    fitted("mlp").save(tmp_path)
    heldout = digit_splits().heldout
    reward = make_reward("classifier", {"weights": str(tmp_path), "floor": -0.5})
    found = reward.score(heldout.media, prompts(("one",) * len(heldout)))
    assert float(found.min()) == -0.5


@pytest.mark.parametrize(("prompt", "hint"), [("sevn", "did you mean 'seven'?"), ("emu", "")])
def test_a_prompt_that_is_no_class(prompt: str, hint: str, tmp_path: Path) -> None:
    fitted("mlp").save(tmp_path)
    reward = make_reward("classifier", {"weights": str(tmp_path)})
    with pytest.raises(RewardError, match=f"no class '{prompt}'") as caught:
        reward.score(torch.zeros(2, 3, 8, 8), prompts(("one", prompt)))
    assert caught.value.hint == hint
