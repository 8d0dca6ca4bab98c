"""Cosmos-Predict2.5 over a tiny random pipeline, saved and loaded as a user's would be."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    Cosmos2_5_PredictBasePipeline,
    CosmosTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.models.transformers import transformer_cosmos
from tests.models.families.cases import Call, Case, ask, only
from tests.models.families.checks import Checks, FirstFrameChecks
from tests.models.families.tiny import chat_tokenizer, pixels, qwen_vl_config, random
from torch import Tensor
from torch.nn import functional as F
from transformers import Qwen2_5_VLForConditionalGeneration

from ddrl.errors import DataError, UsageError
from ddrl.models.families.cosmos import Cosmos
from ddrl.models.pretrained import load_model

CHANNELS = 4


class Unguarded:
    """Lets the pipeline run."""

    def to(self, device: object) -> None:
        pass

    def check_text_safety(self, text: str) -> bool:
        return True


def nearest(image: Tensor, size: list[int], interpolation: object) -> Tensor:
    return F.interpolate(image, size=size, mode="nearest")


@pytest.fixture(scope="module", autouse=True)
def torchvision() -> Any:
    """Stands in for the one function that the network calls, where torchvision is missing."""
    with pytest.MonkeyPatch.context() as patch:
        if not hasattr(transformer_cosmos, "transforms"):
            resizing = SimpleNamespace(
                functional=SimpleNamespace(resize=nearest),
                InterpolationMode=SimpleNamespace(NEAREST="nearest"),
            )
            patch.setattr(transformer_cosmos, "transforms", resizing, raising=False)
        yield


def build_pipeline(_: Any = None) -> Cosmos2_5_PredictBasePipeline:
    transformer = random(
        CosmosTransformer3DModel,
        in_channels=CHANNELS + 1,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        mlp_ratio=2,
        text_embed_dim=32,
        adaln_lora_dim=4,
        max_size=(8, 32, 32),
        rope_scale=(1.0, 3.0, 3.0),
        extra_pos_embed_type=None,
        use_crossattn_projection=True,
        crossattn_proj_in_channels=64,
        encoder_hidden_states_channels=32,
    )
    vae = random(
        AutoencoderKLWan,
        base_dim=4,
        z_dim=CHANNELS,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[-0.3, 0.1, 0.2, 0.4],
        latents_std=[0.5, 0.8, 1.5, 2.0],
    )
    scheduler = UniPCMultistepScheduler(
        use_karras_sigmas=True,
        use_flow_sigmas=True,
        prediction_type="flow_prediction",
        sigma_max=200.0,
        sigma_min=0.01,
    )
    return Cosmos2_5_PredictBasePipeline(
        text_encoder=random(Qwen2_5_VLForConditionalGeneration, qwen_vl_config()),
        tokenizer=chat_tokenizer(),
        transformer=transformer,
        vae=vae,
        scheduler=scheduler,
        safety_checker=Unguarded(),
    )


def own(model: Any, call: Call) -> Tensor:
    """The pipeline's own loop, one text at a time, with Euler steps on the given times."""
    pipeline, num = model.pipeline, model.given_latents
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    steps = functools.partial(scheduler.set_timesteps, sigmas=list(call.times))
    scheduler.set_timesteps = lambda _, device: steps(device=device)
    kept, pipeline.safety_checker = pipeline.safety_checker, Unguarded()
    rows = []
    for row in call.rows():
        # What it starts the given frames from must not matter.
        shape = (1, CHANNELS, num, *row.noise.shape[3:])
        latents = ask(
            model,
            scheduler,
            prompt=list(row.texts),
            negative_prompt=[""],
            video=None if row.given is None else 2 * row.given.transpose(1, 2) - 1,
            num_latent_conditional_frames=num or 2,
            num_frames=call.case.size[2],
            height=call.height,
            width=call.width,
            num_inference_steps=len(call.times),
            guidance_scale=call.guidance - 1,  # which is counted from 0
            latents=torch.cat([row.noise.new_full(shape, 3.0), row.noise], dim=2),
            output_type="latent",
        )
        rows.append(latents[:, :, num:])
    pipeline.safety_checker = kept
    return torch.cat(rows)


def case(given: int, **more: Any) -> Case:
    wrong = {
        (24, 16, 9): "multiples of 16",
        (16, 16, 8): r"1 \+ a multiple of 4 frames, not 8",
    }
    num = (given + 3) // 4
    shared: dict[str, Any] = {
        "lora": 2 * (4 + 4 + 2),  # attention to itself and to the text, and the feed-forward part
        "limit": 512,
        "embeds": (512, 64),
        "sizes": {(704, 1280, 93): (CHANNELS, 24 - num, 88, 160)},
        "refused": wrong,
        "shifts": {},  # see test_time_shift_has_the_middle_of_the_released_grid
        "size": (16, 32, 9 if given else 5),
        "texts": ("a red bus moves forward", ""),
        "guidance": 4.0,
        "given": given,
        "is_told": True,
        "told": f"{num} given latent frames, not 0",
        "too_many": f"takes {given} first frames? per text",
    }
    return Case(f"{given} given", build_pipeline, Cosmos, own, **(shared | more))


CASES = [
    case(0),
    case(1, lora=None, limit=None),
    case(5, lora=None, limit=None, guided=False, refused={(16, 16, 5): "at least 9, not 5"}),
]


class TestCosmos(Checks):
    """The shared checks."""

    test_decoding = None  # its pipeline takes no latents to decode; see the encoding below


class TestFirstFrames(FirstFrameChecks):
    """The shared checks of given frames."""


@only("5 given")
def test_given_frames_have_no_noise_and_a_mask(model: Cosmos, case: Case) -> None:
    condition: Any = case.encode(model)
    seen: dict[str, Tensor] = {}

    def look(module: object, args: object, kwargs: dict[str, Tensor]) -> None:
        seen.update(kwargs)

    hook = model.transformer.register_forward_pre_hook(look, with_kwargs=True)
    x = torch.ones(2, CHANNELS, 1, 2, 4)
    with torch.no_grad():
        model.predict(x, torch.tensor([0.25, 0.75]), condition)
    hook.remove()
    expected = torch.tensor([[1e-4, 1e-4, 0.25], [1e-4, 1e-4, 0.75]])
    torch.testing.assert_close(seen["timestep"].flatten(1), expected)
    assert torch.equal(seen["hidden_states"], torch.cat([condition.given, x], dim=2))
    assert torch.equal(seen["condition_mask"][:, 0, :, 0, 0], torch.tensor([[1.0, 1, 0]] * 2))


@only("0 given")
def test_texts_are_the_pipelines(model: Cosmos) -> None:
    texts = ["", "x" * 300, "y" * 600, "y" * 700]
    condition = model.encode(texts)
    theirs, _ = model.pipeline.encode_prompt(texts, do_classifier_free_guidance=False)
    torch.testing.assert_close(condition.embeds, theirs.detach())


@only("0 given")
def test_encoding_is_the_pipelines(model: Cosmos) -> None:
    media = pixels(1, 5, 3, 16, 16)
    ours = model.encode_media(media)
    _, theirs, _, _ = model.pipeline.prepare_latents(
        video=2 * media.transpose(1, 2) - 1,
        batch_size=1,
        num_channels_latents=CHANNELS,
        height=16,
        width=16,
        num_frames_in=5,
        num_frames_out=5,
        dtype=torch.float32,
        latents=torch.zeros_like(ours),
    )
    torch.testing.assert_close(ours, theirs.detach())


@only("1 given")
def test_given_frames_of_another_size_or_number(model: Cosmos) -> None:
    with pytest.raises(DataError, match="0, 1 or 5 given frames, not 2"):
        model.given_frames = 2
    with pytest.raises(DataError, match="multiples of 16"):
        model.encode(["a", "b"], first_frames=pixels(2, 1, 3, 24, 32))


# Of numpy, to the released scheduler's own arithmetic.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@only("0 given")
def test_time_shift_has_the_middle_of_the_released_grid(model: Cosmos) -> None:
    scheduler = model.pipeline.scheduler
    scheduler.set_timesteps(3)
    middle = float(scheduler.sigmas[1])
    assert model.time_shift((4, 2, 2, 4)) == pytest.approx(middle / (1 - middle), rel=1e-5)


@only("0 given")
def test_the_safety_checker_is_neither_loaded_nor_saved(model: Cosmos, tmp_path: Path) -> None:
    model.pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["safety_checker"] == [None, None]
    assert isinstance(load_model(tmp_path), Cosmos)


@only("0 given")
def test_without_torchvision_it_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(transformer_cosmos, "transforms")
    with pytest.raises(UsageError, match="needs torchvision"):
        load_model(folder)
