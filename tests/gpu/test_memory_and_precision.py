"""On CUDA: adapters in bfloat16 keep their contract, and a plan's memory is what is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.models.families.test_sd3 import build_pipeline
from tests.models.families.wan import wan_parts

from ddrl.models.adapter.blank import blank_condition
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.footprint import LiveBytes
from ddrl.models.lora.adapter import LoRASettings, add_lora
from ddrl.models.pretrained import load_model
from ddrl.models.sketch import materialize, sketch_model
from ddrl.training.forward import Forward

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

CUDA = torch.device("cuda")
TEXTS = ["a cat walks on the grass", ""]


@pytest.fixture(scope="module", params=["sd3", "wan"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp(request.param)
    if request.param == "sd3":
        build_pipeline(made).save_pretrained(made / "model")
    else:
        wan_parts.text_pipeline().save_pretrained(made / "model")
    return made / "model"


def loaded(folder: Path, dtype: torch.dtype) -> DiffusersModel:
    model = load_model(folder, dtype=dtype)
    model.pipeline.to(CUDA)
    add_lora(model.transformer, LoRASettings(rank=4), targets=model.lora_targets)
    return model


def shape_of(model: DiffusersModel) -> tuple[int, ...]:
    return model.latent_shape(32, 64, 9 if model.is_video() else 1)


def test_bfloat16_is_close_to_float32_and_trains_the_adapter(folder: Path) -> None:
    exact, model = loaded(folder, torch.float32), loaded(folder, torch.bfloat16)
    shape = shape_of(model)
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).to(CUDA)
    t = torch.tensor([0.3, 0.9], device=CUDA)
    with torch.no_grad():
        expected = Forward(exact).plain(noise, t, exact.encode(TEXTS))
    found = Forward(model, autocast=torch.bfloat16).plain(noise, t, model.encode(TEXTS))
    assert found.dtype == torch.float32
    assert found.shape == noise.shape
    error = (found - expected).norm() / expected.norm()
    assert 0 < float(error) < 0.05
    torch.autograd.backward(found.square().sum())
    for name, parameter in model.transformer.named_parameters():
        assert (parameter.grad is not None) == ("lora_" in name)
        assert parameter.grad is None or bool(parameter.grad.isfinite().all())
    media = model.decode(noise)
    assert media.shape[0] == 2
    assert float(media.min()) >= 0
    assert float(media.max()) <= 1


def test_a_batch_is_its_rows(folder: Path) -> None:
    model = loaded(folder, torch.bfloat16)
    forward, condition = Forward(model, autocast=torch.bfloat16), model.encode(TEXTS)
    noise = torch.randn(2, *shape_of(model), device=CUDA)
    t = torch.tensor([0.3, 0.9], device=CUDA)
    with torch.no_grad():
        whole = forward.plain(noise, t, condition)
        rows = [forward.plain(noise[i : i + 1], t[i : i + 1], condition[i : i + 1]) for i in (0, 1)]
    assert float((whole - torch.cat(rows)).norm() / whole.norm()) < 0.02


def test_the_trace_is_what_the_allocator_gives_out(folder: Path) -> None:
    """A pass large enough that the allocator's rounding, to 512 bytes, does not show."""
    rows = 64
    model = loaded(folder, torch.bfloat16)
    shape = shape_of(model)
    condition = blank_condition(model, rows, shape)
    assert condition is not None
    condition = condition.to(CUDA)
    forward = Forward(model, autocast=torch.bfloat16)
    x, t = torch.zeros(rows, *shape, device=CUDA), torch.full((rows,), 0.5, device=CUDA)
    torch.autograd.backward(forward.plain(x, t, condition).square().sum())  # makes workspaces
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    torch.autograd.backward(forward.plain(x, t, condition).square().sum())
    taken = torch.cuda.max_memory_allocated() - before
    sketch = sketch_model(folder, dtype=torch.bfloat16)
    add_lora(sketch.transformer, LoRASettings(rank=4), targets=sketch.lora_targets)
    with materialize([sketch.transformer, *sketch.frozen_parts()]):
        blank = blank_condition(sketch, rows, shape)
        assert blank is not None
        fake = Forward(sketch, autocast=torch.bfloat16)
        for parameter in sketch.transformer.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)
        with LiveBytes() as live:
            velocity = fake.plain(torch.zeros(rows, *shape), torch.full((rows,), 0.5), blank)
            torch.autograd.backward(velocity.square().sum())
    assert live.peak == pytest.approx(taken, rel=0.25)  # CUDA's autocast keeps more in float32
