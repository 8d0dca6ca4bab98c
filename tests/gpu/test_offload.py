"""Offloading on a GPU: the parts are there when they are used, and the memory falls."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.models.families.test_sd3 import build_pipeline
from tests.models.families.wan import test_wan_i2v, wan_parts

from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.families.sd3 import SD3
from ddrl.models.families.wan.image_to_video import WanI2V

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda")


def size(part: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in part.parameters())


def allocated() -> int:
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated()


@pytest.mark.parametrize("family", ["sd3", "wan_i2v"])
def test_memory_is_the_networks_alone(family: str, tmp_path: Path) -> None:
    before = allocated()
    model: DiffusersModel
    if family == "sd3":
        model = SD3(build_pipeline(tmp_path))
    else:
        model = WanI2V(test_wan_i2v.build_pipeline())
    model.offload(CUDA)
    others = sum(size(part) for part in model.frozen_parts())
    frames = 9 if model.is_video() else 1
    media = wan_parts.pixels(1, *([frames] if model.is_video() else []), 3, 32, 32)
    first = media[:, :1] if model.given_frames else None
    condition = model.encode(["a cat"], first_frames=first, frames=frames)
    latents = model.encode_media(media)
    assert latents.is_cuda
    with torch.no_grad():
        velocity = model.predict(latents, torch.full((1,), 0.5, device=CUDA), condition)
    assert velocity.is_cuda
    beside = sum(
        p.device.type == "cuda" for part in model.frozen_parts() for p in part.parameters()
    )
    assert beside == 0
    held = allocated() - before
    model.pipeline.to(CUDA)
    assert allocated() - before - held >= 0.9 * others
    model.decode(latents, condition)
