"""Qwen-Image-Edit and its successors over tiny random pipelines, saved and loaded as a user's."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
)
from PIL import Image
from tests.models.families import test_qwen_image
from tests.models.families.cases import EDITS, Call, Case, decoded
from tests.models.families.checks import Checks, GivenChecks
from tests.models.families.test_qwen_image import text_encoder
from tests.models.families.tiny import noise, pixels, seeded, strengthen, t5_tokenizer
from torch import Tensor

from ddrl.errors import DataError, UsageError
from ddrl.models.adapter.blank import blank_condition
from ddrl.models.adapter.source_images import as_pictures
from ddrl.models.families.qwen_image_edit import QwenImageEdit, QwenImageEditPlus
from ddrl.models.pretrained import load_model
from ddrl.models.sketch import materialize
from ddrl.training.forward import Forward

HAS_TORCHVISION = find_spec("torchvision") is not None
SIDE = 64  # of the largest source that the tiny pipelines see, whatever area they ask for
CLASSES = {"edit": QwenImageEditPipeline, "plus": QwenImageEditPlusPipeline}
ADAPTERS = {"edit": QwenImageEdit, "plus": QwenImageEditPlus}
LONG = ("embeds", "mask", "empty_embeds", "empty_mask")  # as long as a text
PICTURES = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
AFTER = 14  # tokens of the template after the text: its end, and the assistant's turn
BEFORE = 64  # tokens of the template that the pipeline drops


class _Processor:
    """The part of Qwen2.5-VL's processor that pipelines call, where torchvision is missing.

    Pictures by the real image processor; as many tokens as it makes patches of, 2x2 each.
    """

    def __init__(self, tokenizer: Any) -> None:
        from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl as pil

        self.image_processor, self.tokenizer = pil.Qwen2VLImageProcessorPil(), tokenizer

    def __call__(
        self, *, text: Sequence[str], images: Any, padding: bool, return_tensors: str
    ) -> Any:
        pictures = [images] if isinstance(images, Image.Image) else list(images)
        seen = self.image_processor(images=pictures, return_tensors=return_tensors)
        numbers = (int(grid.prod()) // 4 for grid in seen["image_grid_thw"])
        (only,) = text
        for number in numbers:
            only = only.replace(PICTURES[2], "<|here|>" * number, 1)
        words = only.replace("<|here|>", PICTURES[2])
        found = self.tokenizer([words], padding=padding, return_tensors=return_tensors)
        found.update(seen)
        return found


def processor(tokenizer: Any) -> Any:
    """For a tokenizer that knows the tokens of pictures."""
    if not HAS_TORCHVISION:
        return _Processor(tokenizer)
    from transformers import Qwen2VLProcessor
    from transformers.models.qwen2_vl import image_processing_qwen2_vl as images
    from transformers.models.qwen2_vl import video_processing_qwen2_vl as videos

    parts = (images.Qwen2VLImageProcessor(), tokenizer, videos.Qwen2VLVideoProcessor())
    return Qwen2VLProcessor(*parts)


def tokenizer(template: str) -> Any:
    """Single bytes, but the system's turn takes as many tokens as the pipeline drops."""
    made = t5_tokenizer(4000)
    made.add_special_tokens(
        {"additional_special_tokens": ["<|im_start|>", "<|im_end|>", *PICTURES]}
    )
    system = template.partition("<|im_start|>system\n")[2].partition("<|im_end|>")[0]
    around = len(["<|im_start|>", *"system\n", "<|im_end|>", *"\n", "<|im_start|>", *"user\n"])
    made.add_tokens([system[: len(system) - (BEFORE - around - 1)]])
    return made


def build_pipeline(_: Any = None, kind: str = "plus", *, zero_cond_t: bool = False) -> Any:
    """One of the two; ``zero_cond_t`` is of 2511, whose source tokens have time 0."""
    base, made = test_qwen_image.build_pipeline(), CLASSES[kind]
    template = QwenImageEditPipeline(**base.components, processor=None).prompt_template_encode
    words = tokenizer(template)
    ids = dict(
        zip(
            ("vision_start", "vision_end", "image", "video"),
            words.convert_tokens_to_ids(PICTURES),
            strict=True,
        )
    )
    with seeded():
        encoder = text_encoder(ids, initializer_range=0.2)
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


def own(model: QwenImageEdit, call: Call) -> Tensor:
    """The pipeline's own call, row by row: it takes one prompt at a time."""
    rows = [(row, row.given) for row in call.rows()]
    return torch.cat(
        [
            test_qwen_image.own(model, row, prompt=row.texts[0], image=as_pictures(given[0])[0])
            for row, given in rows
            if given is not None
        ]
    )


def case(name: str, kind: str, **settings: bool) -> Case:
    return Case(
        name,
        partial(build_pipeline, kind=kind, **settings),
        ADAPTERS[kind],
        own,
        lora=None,  # as of Qwen-Image
        limit=None,
        embeds=(),
        sizes={(4, 8, 1): (4, 2, 4)},
        refused={(6, 8, 1): "multiples of 4"},
        shifts={(16, 128, 256): math.exp(0.9)},  # 8192 tokens
        texts=EDITS,
        guided=False,  # the pipeline rescales, ours does not
        given=1,
        given_sizes=[(16, 32), (24, 16)],  # as the result, and of another shape
        told="Editing needs a source image",
        too_many="takes 1 source image per text",
        decodes=decoded(
            test_qwen_image.packed, true_cfg_scale=1.0, image=Image.new("RGB", (32, 16))
        ),
        is_saved=HAS_TORCHVISION,  # which the processor needs to be loaded
    )


CASES = [case("edit", "edit"), case("plus", "plus"), case("2511", "plus", zero_cond_t=True)]


class TestQwenImageEdit(Checks):
    """The shared checks, but two: LoRA is as of Qwen-Image, and long texts have a test below."""

    test_long_texts_are_cut = None
    test_lora = None


class TestEdits(GivenChecks):
    """The shared checks of source images."""


@torch.no_grad()
def test_the_text_is_read_after_the_picture(model: QwenImageEdit) -> None:
    """Qwen2.5-VL reads the text after it has seen the image; both are in its last tokens."""
    last = []
    for text in EDITS[:2]:
        for source in pixels(2, 1, 1, 3, 16, 16):
            condition: Any = model.encode([text], first_frames=source)
            last.append(condition.embeds[0, -AFTER:])
    for first in range(4):
        for second in range(first):
            assert (last[first] - last[second]).abs().max() > 1e-4


def test_the_empty_text_of_guidance_is_the_pipelines(model: QwenImageEdit, case: Case) -> None:
    """One step of the pipeline from time 1 to 0, with nothing asked for of the same source."""
    x, given = noise(2, *case.shape(model)), case.first()
    v_empty = x - own(model, Call(case, ["", ""], x, [1.0], given=given))
    condition, t = case.encode(model), torch.ones(2)
    with torch.no_grad():
        v, guided = model.predict(x, t, condition), Forward(model, guidance=3.0)(x, t, condition)
    torch.testing.assert_close(guided, v_empty + 3.0 * (v - v_empty), rtol=0, atol=1e-4)


def test_dropout_drops_the_instruction_of_some_rows(model: QwenImageEdit) -> None:
    sources = pixels(2, 3, 16, 16)
    condition = model.encode(["a cat", "a dog"], first_frames=sources[:, None])
    dropped = condition.where(torch.tensor([False, True]), model.encode([""]))
    expected = model.encode(["a cat", ""], first_frames=sources[:, None])
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


def test_long_instructions_are_cut_after_those_of_the_image(model: QwenImageEdit) -> None:
    source = pixels(1, 1, 3, 16, 16)
    lengths = {}
    for number in (0, 300, 512, 2000):
        condition: Any = model.encode(["x" * number], first_frames=source)
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
    real = model.encode(["x" * 2000], first_frames=pixels(1, 1, 3, 16, 32))
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
    sketch = ADAPTERS[kind](build_pipeline(kind=kind))
    with materialize([sketch.transformer]):
        blank = blank_condition(sketch, 2, shape)
        assert blank is not None
        velocity = sketch.predict(torch.zeros(2, *shape), torch.full((2,), 0.5), blank)
    assert velocity.shape == (2, *shape)
