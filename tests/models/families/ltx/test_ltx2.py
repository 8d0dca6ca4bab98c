"""LTX-2 over tiny random pipelines, from text and from a given first frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from diffusers import LTX2ImageToVideoPipeline, LTX2Pipeline
from tests.models.families.cases import Call, Case, decoded, only
from tests.models.families.checks import Checks, FirstFrameChecks, latents, velocity
from tests.models.families.ltx import ltx_checks
from tests.models.families.ltx.ltx2_parts import build_pipeline
from torch import Tensor

from ddrl.models.families.ltx2 import LTX2
from ddrl.models.lora.adapter import LoRASettings, add_lora

NEWER = partial(build_pipeline, newer=True)
OLDER = partial(build_pipeline, newer=False)


def build_i2v(_: Any = None, *, newer: bool) -> LTX2ImageToVideoPipeline:
    return LTX2ImageToVideoPipeline(**build_pipeline(newer=newer).components)


@contextmanager
def calls_with(model: LTX2, **arguments: Any) -> Iterator[None]:
    """Have every call of the network use these arguments instead."""
    hook = model.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: (args, kwargs | arguments), with_kwargs=True
    )
    try:
        yield
    finally:
        hook.remove()


def own(model: Any, call: Call, *, isolated: bool = True, **settings: Any) -> Tensor:
    """The latents of the pipeline itself, whose modality guidance of 0 is no other modality.

    Its guided branches are never isolated unless the network is told so.
    """
    clip, is_guided = ltx_checks.whole(model, call), call.guidance != 1
    neither = 1.0 if is_guided else 0.0
    with calls_with(model, **({"isolate_modalities": True} if isolated and is_guided else {})):
        raw = call.latents(
            model,
            latents=model.denormalize(clip),
            guidance_scale=call.guidance,
            audio_guidance_scale=1.0,
            stg_scale=0.0,
            audio_stg_scale=0.0,
            guidance_rescale=0.0,
            modality_scale=neither,
            audio_modality_scale=1.0 if is_guided else 2.0,
            generator=torch.Generator().manual_seed(0),  # of the sound
            **settings,
        )
    return ltx_checks.generated(model, model.normalize(raw), clip)


def case(name: str, build: Any, **more: Any) -> Case:
    mine = {
        "lora": 2 * 2 * 4,  # two blocks, self- and cross-attention
        "limit": 1024,
        "embeds": (1024, 32 if name.startswith("2.3") else 16),
        "guidance": 4.0,
    }
    return Case(name, build, LTX2, own, **(ltx_checks.SHARED | mine | more))


DECODED = decoded(LTX2Pipeline._pack_latents, guidance_scale=1.0, stg_scale=0.0)
CASES = [
    case("2.0", OLDER, lora=None, decodes=DECODED),
    case("2.3", NEWER, decodes=DECODED),
    case("2.0-i2v", partial(build_i2v, newer=False), **ltx_checks.GIVEN),
    case("2.3-i2v", partial(build_i2v, newer=True), **ltx_checks.GIVEN),
]
OF_TEXT = only("2.0", "2.3")


class TestLTX2(Checks, ltx_checks.Checks):
    """The shared checks."""

    rate = 24


class TestFirstFrames(FirstFrameChecks, ltx_checks.GivenChecks):
    """The shared checks of given frames."""

    text = LTX2Pipeline


@OF_TEXT
def test_guidance_without_isolation_is_another(model: LTX2, case: Case) -> None:
    call = Call(case, case.texts, latents(model, case), [1.0], guidance=4.0)
    heard, silent = (own(model, call, isolated=isolated) for isolated in (False, True))
    assert not torch.allclose(heard, silent, rtol=0, atol=1e-2)


@OF_TEXT
def test_the_video_does_not_hear(model: LTX2, case: Case) -> None:
    x, t, condition = latents(model, case), torch.tensor([0.5, 0.9]), case.encode(model)
    silent = velocity(model, x, t, condition)
    config: Any = model.transformer.config
    words = 16  # either the text encoder's width or the sound's
    rng = torch.Generator().manual_seed(4)
    loud = {
        "audio_hidden_states": torch.randn(2, 7, config.audio_in_channels, generator=rng),
        "audio_encoder_hidden_states": torch.randn(2, 5, words, generator=rng),
        "audio_timestep": torch.tensor([10.0, 20.0]),
        "audio_num_frames": 7,
    }
    with calls_with(model, **loud):
        assert torch.equal(velocity(model, x, t, condition), silent)
    with calls_with(model, **loud, isolate_modalities=False):
        assert not torch.allclose(velocity(model, x, t, condition), silent, atol=1e-2)


def reached(model: LTX2, case: Case) -> set[str]:
    """Parameters that get a gradient other than zero."""
    network = model.transformer
    network.zero_grad(set_to_none=True)
    made = model.predict(latents(model, case), torch.tensor([0.5, 0.9]), case.encode(model))
    torch.autograd.backward(made.square().mean())
    return {n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}


def trained(model: LTX2) -> set[str]:
    return {n for n, p in model.transformer.named_parameters() if p.requires_grad}


@OF_TEXT
def test_all_that_is_trained_is_reached(fresh: LTX2, case: Case) -> None:
    assert reached(fresh, case) == trained(fresh)  # as it is loaded
    fresh.transformer.requires_grad_(False)
    fresh.train_all()
    assert reached(fresh, case) == trained(fresh)
    assert not any("audio" in name for name in trained(fresh))
    # Nothing is left out: whatever is reached when all may be is trained.
    names = trained(fresh)
    fresh.transformer.requires_grad_(True)
    assert reached(fresh, case) == names


@OF_TEXT
@pytest.mark.parametrize("targets", [(), ("to_q", "linear_1")])
def test_lora_is_bound_to_the_video_alone(
    fresh: LTX2, case: Case, targets: tuple[str, ...]
) -> None:
    network, settings = fresh.transformer, LoRASettings(rank=2, targets=targets)
    number = add_lora(network, settings, targets=fresh.lora_targets, is_used=fresh.is_used)
    assert targets or number == 2 * 2 * 4  # two blocks, self- and cross-attention
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.1)
    assert reached(fresh, case) == trained(fresh)
    assert len(trained(fresh)) == 2 * number


@OF_TEXT
def test_padding_is_replaced(model: LTX2) -> None:
    condition: Any = model.encode(["x" * 300])
    assert condition.mask.all()
