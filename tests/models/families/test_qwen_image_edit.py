"""Qwen-Image-Edit and its successors over tiny random pipelines, saved and loaded as a user's."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
)
from tests.models.families import test_qwen_image
from tests.models.families.qwen_processor import HAS_TORCHVISION, processor
from tests.models.families.test_flux2_klein_edit import rounded
from tests.models.families.test_flux_kontext import pictures, strengthen
from tests.models.families.tiny import t5_tokenizer
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from ddrl.errors import DataError, UsageError
from ddrl.models.adapter.blank import blank_condition
from ddrl.models.adapter.source_images import as_pictures
from ddrl.models.families.qwen_image_edit import QwenEditCondition, QwenImageEdit, QwenImageEditPlus
from ddrl.models.pretrained import load_model
from ddrl.models.sketch import materialize
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.training.forward import Forward
from ddrl.training.rollout import sample_ode

TEXTS = ["make it a painting", "remove the cat"]
SIDE = 64  # of the largest source that the tiny pipelines see, whatever area they ask for
CLASSES = {"edit": QwenImageEditPipeline, "plus": QwenImageEditPlusPipeline}
LONG = ("embeds", "mask", "empty_embeds", "empty_mask")  # as long as a text
ADAPTERS = {"edit": QwenImageEdit, "plus": QwenImageEditPlus}
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
AFTER = 14  # tokens of the template after the text: its end, and the assistant's turn
BEFORE = 64  # tokens of the template that the pipeline drops


def tokenizer(template: str) -> Any:
    """Single bytes, but the system's turn takes as many tokens as the pipeline drops."""
    made = t5_tokenizer(4000)
    made.add_special_tokens({"additional_special_tokens": [*SPECIAL, "<|video_pad|>"]})
    system = template.partition("<|im_start|>system\n")[2].partition("<|im_end|>")[0]
    around = len(["<|im_start|>", *"system\n", "<|im_end|>", *"\n", "<|im_start|>", *"user\n"])
    made.add_tokens([system[: len(system) - (BEFORE - around - 1)]])
    return made


def text_encoder(words: Any) -> Any:
    ids = {
        name: words.convert_tokens_to_ids(token)
        for name, token in zip("sevip", SPECIAL, strict=True)
    }
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 300,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "initializer_range": 0.2,
            "rope_parameters": {
                "mrope_section": [1, 1, 2],
                "rope_type": "default",
                "rope_theta": 1e6,
            },
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": 16,
            "initializer_range": 0.2,
        },
        image_token_id=ids["p"],
        video_token_id=words.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=ids["v"],
        vision_end_token_id=ids["i"],
    )
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def build_pipeline(kind: str = "plus", *, zero_cond_t: bool = False) -> Any:
    """One of the two; ``zero_cond_t`` is of 2511, whose source tokens have time 0."""
    base, made = test_qwen_image.build_pipeline(), CLASSES[kind]
    template = QwenImageEditPipeline(**base.components, processor=None).prompt_template_encode
    words = tokenizer(template)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = text_encoder(words)
        config = dict(base.transformer.config) | {"zero_cond_t": zero_cond_t}
        transformer = QwenImageTransformer2DModel.from_config(config)
    strengthen(transformer, base.vae)
    parts = {**base.components, "transformer": transformer, "text_encoder": encoder}
    parts["tokenizer"] = words
    return made(**parts, processor=processor(words))


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Have the pipelines bring sources to a small area, by their own rule."""
    for kind in CLASSES.values():
        module: Any = inspect.getmodule(kind)
        rule = module.calculate_dimensions

        def smaller(area: float, ratio: float, rule: Any = rule) -> Any:
            return rule(area / 1024**2 * SIDE**2, ratio)

        patch.setattr(module, "calculate_dimensions", smaller)


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        yield


@pytest.fixture(scope="module", params=["edit", "plus", "2511"])
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, small: None
) -> QwenImageEdit:
    folder = tmp_path_factory.mktemp("qwen_edit") / "model"
    kind = "plus" if request.param == "2511" else request.param
    pipeline = build_pipeline(kind, zero_cond_t=request.param == "2511")
    loaded: Any = ADAPTERS[kind](pipeline)
    if HAS_TORCHVISION:  # which the processor needs to be loaded
        pipeline.save_pretrained(folder)
        loaded = load_model(folder)
    assert type(loaded) is ADAPTERS[kind]
    loaded.pipeline.set_progress_bar_config(disable=True)
    return loaded


def own_pipeline(model: QwenImageEdit, texts: Sequence[str], sources: Tensor) -> Any:
    """The pipeline's own call, row by row: it takes one prompt at a time."""

    def one(text: str, source: Tensor, noise: Tensor, times: Sequence[float]) -> Tensor:
        height, width = noise.shape[1] * 2, noise.shape[2] * 2
        latents = model.pipeline(
            image=as_pictures(source[None])[0],
            prompt=text,
            sigmas=list(times),
            true_cfg_scale=1.0,
            height=height,
            width=width,
            latents=test_qwen_image.packed(noise[None]),
            output_type="latent",
        ).images
        unpacked: Tensor = model.pipeline._unpack_latents(latents, height, width, 2)
        return unpacked[:, :, 0]

    def run(noise: Tensor, times: Sequence[float]) -> Tensor:
        pipeline = model.pipeline
        own, pipeline.scheduler = pipeline.scheduler, FlowMatchEulerDiscreteScheduler(shift=1.0)
        rows = zip(texts, sources, noise, strict=True)
        latents = torch.cat([one(text, source, x, times) for text, source, x in rows])
        pipeline.scheduler = own
        return latents

    return run


@pytest.mark.parametrize("size", [(16, 32), (24, 16)], ids=["as the result", "of another shape"])
def test_conformance(model: QwenImageEdit, size: tuple[int, int]) -> None:
    sources = rounded(pictures(2, *size, seed=2))
    check_adapter(
        AdapterCase(
            model=model,
            condition=model.encode(TEXTS, first_frames=sources[:, None]),
            latent_shape=model.latent_shape(16, 32),
            media=pictures(2, 16, 32),
            pipeline=own_pipeline(model, TEXTS, sources),
            texts=TEXTS,
            first_frames=sources[:, None],
        )
    )


def test_a_batch_of_four_is_four_of_one(model: QwenImageEdit) -> None:
    """Sources of one size and texts of several lengths, one of which is empty."""
    sources = rounded(pictures(4, 16, 16, seed=3))
    texts = ["a", "redden the sky", "", "b"]
    noise = torch.randn(4, *model.latent_shape(16, 16), generator=torch.Generator().manual_seed(4))
    times, forward = torch.tensor([1.0, 0.5, 0.0]), Forward(model)
    encoded = model.encode(texts, first_frames=sources[:, None])
    together = sample_ode(forward, encoded, noise, times=times, solver="euler")
    theirs = own_pipeline(model, texts, sources)(noise, [1.0, 0.5])
    torch.testing.assert_close(together, theirs, rtol=0, atol=1e-4)
    for row in range(4):
        alone = model.encode([texts[row]], first_frames=sources[row : row + 1, None])
        one = sample_ode(forward, alone, noise[row : row + 1], times=times, solver="euler")
        torch.testing.assert_close(together[row : row + 1], one, rtol=0, atol=1e-5)


def test_source_and_instruction_both_change_what_is_read(model: QwenImageEdit) -> None:
    """Qwen2.5-VL reads the text after it has seen the image; the network sees the image, too."""
    sources = pictures(2, 16, 16)
    x, t = torch.ones(1, *model.latent_shape(16, 16)), torch.tensor([0.5])
    conditions = [
        model.encode([text], first_frames=source[None, None])
        for text in TEXTS
        for source in sources
    ]
    last = []
    for condition in conditions:
        assert isinstance(condition, QwenEditCondition)
        assert condition.embeds is not None
        last.append(condition.embeds[0, -AFTER:])
    with torch.no_grad():
        velocities = [model.predict(x, t, condition) for condition in conditions]
    for first in range(4):
        for second in range(first):
            assert (last[first] - last[second]).abs().max() > 1e-4
            assert (velocities[first] - velocities[second]).abs().max() > 1e-5


def test_guidance_takes_the_empty_text_with_the_same_source(model: QwenImageEdit) -> None:
    """The pipeline's velocities; it then rescales what they are put together to, ours does not."""
    sources = rounded(pictures(2, 16, 16))
    noise = torch.randn(2, *model.latent_shape(16, 16), generator=torch.Generator().manual_seed(2))
    t = torch.tensor([1.0, 1.0])
    condition = model.encode(TEXTS, first_frames=sources[:, None])
    with torch.no_grad():
        v = model.predict(noise, t, condition)
        guided = Forward(model, guidance=3.0)(noise, t, condition)
    # One step of the pipeline from time 1 to 0, with nothing asked for.
    v_empty = noise - own_pipeline(model, ["", ""], sources)(noise, [1.0])
    torch.testing.assert_close(guided, v_empty + 3.0 * (v - v_empty), rtol=0, atol=1e-4)


def test_dropout_drops_the_instruction_of_some_rows(model: QwenImageEdit) -> None:
    sources = pictures(2, 16, 16)
    condition = model.encode(TEXTS, first_frames=sources[:, None])
    dropped = condition.where(torch.tensor([False, True]), model.encode([""]))
    expected = model.encode([TEXTS[0], ""], first_frames=sources[:, None])
    x, t = torch.ones(2, *model.latent_shape(16, 16)), torch.tensor([0.5, 0.5])
    with torch.no_grad():
        torch.testing.assert_close(
            model.predict(x, t, dropped), model.predict(x, t, expected), rtol=0, atol=1e-5
        )
        assert not torch.allclose(
            model.predict(x, t, condition)[1], model.predict(x, t, dropped)[1]
        )


def test_an_editor_needs_a_source(model: QwenImageEdit) -> None:
    with pytest.raises(DataError, match=r"needs source images, but data\.source_images is 0"):
        model.set_given(first_frames=0, source_images=0)
    with pytest.raises(DataError, match="Editing needs a source image"):
        model.predict(torch.ones(1, 4, 4, 4), torch.tensor([0.5]), model.encode(["a"]))


def test_long_instructions_are_cut_after_those_of_the_image(model: QwenImageEdit) -> None:
    source = pictures(1, 16, 16)[None]
    lengths = {}
    for number in (0, 300, 512, 2000):
        condition = model.encode(["x" * number], first_frames=source)
        assert isinstance(condition, QwenEditCondition)
        assert condition.embeds is not None
        lengths[number] = condition.embeds.shape[1]
    assert lengths[300] == lengths[0] + 300
    assert lengths[512] == lengths[2000] == lengths[0] + 512


def test_without_torchvision_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model_index.json").write_text(
        '{"_class_name": "QwenImageEditPlusPipeline", "_diffusers_version": "0.35.0"}'
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="QwenImageEditPlusPipeline needs torchvision") as error:
        load_model(tmp_path)
    assert error.value.hint == "pip install torchvision"


def test_a_plan_s_condition_is_shaped_as_an_encoded_one(model: QwenImageEdit) -> None:
    """As long as texts may be; the network is traced with it."""
    shape = model.latent_shape(16, 32)
    real = model.encode(["x" * 2000], first_frames=pictures(1, 16, 32)[None])
    blank = blank_condition(model, 1, shape)
    assert blank is not None
    for name, value in vars(real).items():
        made = getattr(blank, name)
        assert (made.dtype, made.ndim) == (value.dtype, value.ndim), name
        if name in LONG:
            # The template's few tokens are not counted; the tokens of a picture are, at least.
            assert abs(value.shape[1] - made.shape[1]) <= AFTER + len("Picture 1: ") + 2, name
        else:
            assert made.shape == value.shape, name
    kind = "edit" if type(model) is QwenImageEdit else "plus"
    sketch = ADAPTERS[kind](build_pipeline(kind))
    with materialize([sketch.transformer]):
        blank = blank_condition(sketch, 2, shape)
        assert blank is not None
        velocity = sketch.predict(torch.zeros(2, *shape), torch.full((2,), 0.5), blank)
    assert velocity.shape == (2, *shape)
