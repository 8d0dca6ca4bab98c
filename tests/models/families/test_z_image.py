"""Z-Image over a tiny random pipeline, saved and loaded as a user's would be."""

from __future__ import annotations

from typing import Any

from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tests.models.families.cases import Case, decoded
from tests.models.families.checks import Checks
from tests.models.families.tiny import SMALL, autoencoder_kl, chat_tokenizer, fill_zeros, seeded
from transformers import Qwen3Config, Qwen3Model

from ddrl.models.families.z_image import ZImage

TEMPLATE = "{% for m in messages %}<user>{{ m['content'] }}{% endfor %}<assistant>"


def build_pipeline(_: Any = None) -> ZImagePipeline:
    with seeded():
        transformer = ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[8, 4, 4],
            axes_lens=[1024, 64, 64],
        )
        fill_zeros(transformer, std=0.1)
        vae = autoencoder_kl(scaling_factor=0.3611, shift_factor=0.1159)
        encoder = Qwen3Model(Qwen3Config(**SMALL, num_hidden_layers=2)).eval()
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=encoder,
        tokenizer=chat_tokenizer(64, template=TEMPLATE),
        transformer=transformer,
    )


CASES = [
    Case(
        "z_image",
        build_pipeline,
        ZImage,
        # Its guidance is counted from 0.
        lambda model, call: call.latents(model, guidance_scale=call.guidance - 1),
        lora=4 * (2 + 1 + 1),  # layers, and the refiners of noise and text
        limit=512,
        embeds=(512, 16),
        lengths=(len("<user><assistant>") + 1, 512),  # the chat template alone
        sizes={(4, 4, 1): (4, 2, 2)},
        shifts={(4, 8, 8): 3.0},
        size=(16, 24, 1),
        # Of lengths that fill different numbers of the network's blocks of 32 tokens.
        texts=("a cat holding a sign that says " + "hello " * 8, "", "an owl"),
        guidance=3.5,
        decodes=decoded(guidance_scale=0.0),
    )
]


class TestZImage(Checks):
    """The shared checks."""


def test_tokens_and_padding(model: ZImage) -> None:
    assert model.num_tokens((4, 8, 12)) == 4 * 6
    condition: Any = model.encode(["", "x" * 300])
    assert not condition.embeds[0, condition.length[0] :].any()
