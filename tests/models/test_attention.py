"""The kernel of attention that a recipe asks for: preferred, refused where it can't run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.families import test_sd3
from tests.models.families.ltx import test_ltx_video
from torch.nn.functional import scaled_dot_product_attention

from ddrl.builders.device import configured, device_to_read, pick_device
from ddrl.errors import UsageError
from ddrl.jobs.plan import plan_recipe
from ddrl.models.attention import (
    AttentionCall,
    attention_calls,
    check_calls,
    prefer_attention,
)
from ddrl.models.pretrained import load_model
from ddrl.recipe import Recipe, parse_recipe

TEXT = """
[model]
family = "diffusers"
path = "{path}"
lora = {{ rank = 2 }}
[data]
source = "prompts"
path = "{path}/model_index.json"
height = 16
width = 32
anchor = "synthetic"
[[reward]]
name = "ink"
[rollout]
prompts_per_step = 2
group_size = 2
steps = 2
"""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    prefer_attention("auto")


@pytest.fixture(scope="module")
def sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sd3")
    test_sd3.build_pipeline(folder / "parts").save_pretrained(folder / "model")
    return folder / "model"


def recipe(path: Path, *overrides: str) -> Recipe:
    return parse_recipe(TEXT.format(path=path), overrides=list(overrides))


def chosen() -> tuple[bool, bool, bool]:
    cuda: Any = torch.backends.cuda
    return cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()


def test_math_is_what_is_computed_by_default(sd3: Path) -> None:
    """The two kernels that a CPU has give one velocity, and what was set is set back."""
    model = load_model(sd3)
    x, t = torch.ones(2, *model.latent_shape(16, 32)), torch.tensor([0.3, 0.7])
    condition, before = model.encode(["a cat", "a dog"]), chosen()
    velocities = {}
    for name in ("auto", "flash", "math"):
        with torch.no_grad(), configured(recipe(sd3, f"model.attention={name}")):
            assert chosen() == {"math": (False, False, True)}.get(name, (True, True, True))
            velocities[name] = model.predict(x, t, condition)
        assert chosen() == before
    torch.testing.assert_close(velocities["math"], velocities["auto"], rtol=1e-5, atol=1e-5)
    assert torch.equal(velocities["flash"], velocities["auto"])


def test_what_others_compute_with_a_mask_goes_on(sd3: Path) -> None:
    """A reward beside the network may need a mask, which flash attention of a GPU takes none of."""
    q = torch.ones(1, 2, 4, 8)
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
    for name in ("flash", "cudnn", "efficient", "math"):
        prefer_attention(name)
        assert torch.isfinite(scaled_dot_product_attention(q, q, q, attn_mask=mask)).all()


def test_a_kernel_that_needs_a_gpu(sd3: Path) -> None:
    for name in ("cudnn", "efficient"):
        asked = recipe(sd3, f"model.attention={name}", "run.device=cpu")
        with pytest.raises(UsageError, match="needs a CUDA device") as error:
            pick_device(asked)
        assert "model.attention" in error.value.hint
        assert device_to_read(asked).type == "cpu"  # a finished run is read anywhere


def test_a_plan_finds_what_a_network_cannot_use(sd3: Path, tmp_path: Path) -> None:
    """Before the run: float32 on any, and a mask where texts are masked."""
    bfloat16 = ("run.precision=bfloat16", "guard.replay_tolerance=0.05")
    with pytest.raises(UsageError, match="computes attention in float32") as error:
        plan_recipe(recipe(sd3, "model.attention=flash"))
    assert "run.precision" in error.value.hint
    plan_recipe(recipe(sd3, "model.attention=flash", *bfloat16))
    plan_recipe(recipe(sd3, "model.attention=flash", "run.device=cpu"))


def test_masks_and_heads_of_calls() -> None:
    masked, wide = AttentionCall(64, True, True), AttentionCall(512, False, True)
    for name, call, problem in (
        ("flash", masked, "has a mask in its attention"),
        ("flash", wide, "heads of 512 numbers"),
        ("cudnn", wide, "heads of 512 numbers"),
    ):
        with pytest.raises(UsageError, match=problem):
            check_calls(name, {call, AttentionCall(64, False, True)}, "Net")
    for name in ("auto", "efficient", "math"):
        check_calls(name, {masked, wide}, "Net")
    check_calls("cudnn", {masked}, "Net")


@torch.no_grad()
def test_calls_of_the_network_alone_are_recorded(tmp_path: Path) -> None:
    case = test_ltx_video.CASES[0]
    case.build(tmp_path / "parts").save_pretrained(tmp_path / "model")
    model = load_model(tmp_path / "model")
    with attention_calls(model.transformer) as calls:
        condition = model.encode(["a", "a long text"])  # the text encoder attends, too
        assert not calls
        x = torch.zeros(2, *case.shape(model))
        model.predict(x, torch.tensor([0.5, 0.5]), condition)
    assert {call.has_mask for call in calls} == {
        True,
        False,
    }  # between text and video, in the video
    assert not any(call.is_half for call in calls)
