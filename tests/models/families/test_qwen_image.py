"""Qwen-Image over a tiny random pipeline, saved and loaded as a user's would be."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from tests.models.families.cases import Call, Case, ask, decoded
from tests.models.families.checks import Checks
from tests.models.families.tiny import noise, pixels, qwen_vl_config, seeded, t5_tokenizer
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from ddrl.diffusion.schedule import time_grid
from ddrl.models.families.qwen_image import QwenImage

AFTER = 14  # tokens of the template after the text: its end, and the assistant's turn
INSTRUCTION = (
    "Describe the image by detailing the color, shape, size, texture, quantity, text, "
    "spatial relationships of the object"
)
PICTURES = ("image", "video", "vision_start", "vision_end")


def text_encoder(tokens: dict[str, int], **settings: Any) -> Qwen2_5_VLForConditionalGeneration:
    """With the numbers of the tokens that stand for pictures."""
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    config = qwen_vl_config(16, tokens=tokens, **heads, **settings)
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def build_pipeline(_: Any = None) -> QwenImagePipeline:
    with seeded():
        transformer = QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(4, 6, 6),
        )
        vae = AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2],
            num_res_blocks=1,
            temperal_downsample=[True],
            latents_mean=[0.3, -0.2, 0.1, 0.5],
            latents_std=[2.0, 1.5, 0.5, 1.2],
        )
        encoder = text_encoder(dict.fromkeys(PICTURES, 299))
    words = t5_tokenizer(2000)
    words.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    words.add_tokens([INSTRUCTION])  # 34 tokens before the text, as in the real template
    # The released scheduler, but for its shift_terminal of 0.02, which is no shift.
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, max_shift=0.9, max_image_seq_len=8192
    )
    return QwenImagePipeline(
        transformer=transformer,
        scheduler=scheduler,
        vae=vae,
        text_encoder=encoder,
        tokenizer=words,
    )


def packed(x: Tensor) -> Tensor:
    return QwenImagePipeline._pack_latents(x, *x.shape)


def own(model: Any, call: Call, **settings: Any) -> Tensor:
    latents = call.latents(model, latents=packed(call.noise), true_cfg_scale=1.0, **settings)
    unpacked: Tensor = QwenImagePipeline._unpack_latents(latents, call.height, call.width, 2)
    return unpacked[:, :, 0]


CASES = [
    Case(
        "qwen_image",
        build_pipeline,
        QwenImage,
        own,
        lora=2 * 12 - 3,  # what the last block makes of the text goes nowhere
        limit=512,
        embeds=(512, 16),
        lengths=(AFTER, 512),
        sizes={(4, 8, 1): (4, 2, 4)},
        refused={(6, 8, 1): "multiples of 4"},
        shifts={(16, 128, 256): math.exp(0.9)},  # 8192 tokens
        guided=False,  # the pipeline rescales, ours does not
        decodes=decoded(packed, true_cfg_scale=1.0),
    )
]


class TestQwenImage(Checks):
    """The shared checks."""


@torch.no_grad()
def test_latents_have_the_vaes_statistics_taken_out(model: QwenImage) -> None:
    media = pixels(1, 3, 16, 32)
    raw = model.vae.encode(2 * media[:, :, None] - 1).latent_dist.mode()
    for channel, (mean, std) in enumerate([(0.3, 2.0), (-0.2, 1.5), (0.1, 0.5), (0.5, 1.2)]):
        expected = (raw[:, channel, 0] - mean) / std
        torch.testing.assert_close(model.encode_media(media)[:, channel], expected)


def test_where_pads(model: QwenImage) -> None:
    short: Any = model.encode(["a"])
    long: Any = model.encode(["b" * 20])
    for first, second in ((short, long), (long, short)):
        mixed = first[torch.tensor([0, 0])].where(torch.tensor([False, True]), second)
        assert mixed.mask.sum(1).tolist() == [int(first.mask.sum()), int(second.mask.sum())]
        for row, source in enumerate((first, second)):
            kept = mixed.embeds[row][mixed.mask[row]]
            assert torch.equal(kept, source.embeds[0][source.mask[0]])
            assert not mixed.embeds[row][~mixed.mask[row]].any()


@torch.no_grad()
def test_padding_does_not_matter(model: QwenImage) -> None:
    condition: Any = model.encode(["a cat"])
    longer = condition.padded(100)
    assert longer.embeds.shape[1] == 100
    longer.embeds[:, condition.embeds.shape[1] :] = 7.0
    x, t = torch.ones(1, *model.latent_shape(16, 16)), torch.tensor([0.5])
    torch.testing.assert_close(model.predict(x, t, condition), model.predict(x, t, longer))


def test_shift_is_the_pipelines(model: QwenImage) -> None:
    x, scheduler = noise(1, *model.latent_shape(32, 64)), model.pipeline.scheduler
    arguments = {"num_inference_steps": 4, "height": 32, "width": 64, "latents": packed(x)}
    ask(model, scheduler, prompt="a", true_cfg_scale=1.0, output_type="latent", **arguments)
    ours = time_grid(4, shift=model.time_shift((4, 16, 32)))
    torch.testing.assert_close(ours, scheduler.sigmas.double(), rtol=0, atol=1e-6)
