"""What configs and names tell of distillation; released values, on tiny networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers import (
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
    SCMScheduler,
)
from tests.models.families import (
    test_flux,
    test_flux2_klein,
    test_qwen_image,
    test_sana,
    test_sd3,
    test_stable_diffusion,
    test_z_image,
)

from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.adapter.few_step import few_step_name
from ddrl.models.families.flux import Flux
from ddrl.models.families.flux2_klein import Flux2Klein
from ddrl.models.families.qwen_image import QwenImage
from ddrl.models.families.sana import Sana
from ddrl.models.families.sd3 import SD3
from ddrl.models.families.stable_diffusion import SDXL, StableDiffusion
from ddrl.models.families.z_image import ZImage

TABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
DYNAMIC = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
QWEN: dict[str, Any] = {"max_image_seq_len": 8192, "use_dynamic_shifting": True}


def shift(value: float) -> Any:
    return FlowMatchEulerDiscreteScheduler(shift=value)


def model(
    adapter: Callable[[Any], DiffusersModel], pipeline: Any, scheduler: Any = None
) -> DiffusersModel:
    if scheduler is not None:
        pipeline.register_modules(scheduler=scheduler)
    return adapter(pipeline)


def flux(folder: Path, guidance_embeds: bool, scheduler: Any) -> DiffusersModel:
    pipeline = test_flux.build_pipeline(folder, guidance_embeds=guidance_embeds)
    return model(Flux, pipeline, scheduler)


def sdxl(folder: Path, scheduler: Any) -> DiffusersModel:
    return model(SDXL, test_stable_diffusion.build_sdxl(folder), scheduler)


def qwen(**shifts: float) -> DiffusersModel:
    scheduler = FlowMatchEulerDiscreteScheduler(**QWEN, **shifts)
    return model(QwenImage, test_qwen_image.build_pipeline(), scheduler)


DISTILLED: dict[str, tuple[Callable[[Path], DiffusersModel], str]] = {
    "schnell": (lambda f: flux(f, False, shift(1.0)), "schnell"),
    "klein": (
        lambda _: model(Flux2Klein, test_flux2_klein.build_pipeline(is_distilled=True)),
        "is_distilled",
    ),
    "sdxl-turbo": (
        lambda f: sdxl(f, EulerAncestralDiscreteScheduler(**TABLE, timestep_spacing="trailing")),
        "trailing",
    ),
    "sdxl-lightning": (
        lambda f: sdxl(f, EulerDiscreteScheduler(**TABLE, timestep_spacing="trailing")),
        "trailing",
    ),
    "sdxl-lcm": (lambda f: sdxl(f, LCMScheduler(**TABLE)), "LCMScheduler"),
    "z-image-turbo": (lambda _: model(ZImage, test_z_image.build_pipeline(), shift(3.0)), "is 3,"),
    "qwen-lightning": (
        lambda _: qwen(base_shift=math.log(3), max_shift=math.log(3)),
        "same for all sizes",
    ),
    "sana-sprint": (lambda _: model(Sana, test_sana.build_pipeline(), SCMScheduler()), "SCM"),
}

BASE: dict[str, Callable[[Path], DiffusersModel]] = {
    "flux-dev": lambda f: flux(f, True, DYNAMIC),
    "flux-de-distilled": lambda f: flux(f, False, DYNAMIC),
    "klein-base": lambda _: model(Flux2Klein, test_flux2_klein.build_pipeline()),
    "sd3": lambda f: model(SD3, test_sd3.build_pipeline(f)),
    "sd1": lambda f: model(StableDiffusion, test_stable_diffusion.build_sd(f)),
    "sdxl": lambda f: sdxl(f, EulerDiscreteScheduler(**TABLE, timestep_spacing="leading")),
    "sdxl-zero-snr": lambda f: sdxl(
        f,
        EulerDiscreteScheduler(
            **TABLE,
            timestep_spacing="trailing",
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
        ),
    ),
    "z-image": lambda _: model(ZImage, test_z_image.build_pipeline(), shift(6.0)),
    "qwen": lambda _: qwen(base_shift=0.5, max_shift=0.9),
    "sana": lambda _: model(Sana, test_sana.build_pipeline()),
}


# The scheduler's own, with NumPy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.parametrize("name", DISTILLED)
def test_distilled(name: str, tmp_path: Path) -> None:
    build, why = DISTILLED[name]
    assert why in build(tmp_path).distilled()


@pytest.mark.parametrize("name", BASE)
def test_not_distilled(name: str, tmp_path: Path) -> None:
    assert BASE[name](tmp_path).distilled() == ""


@pytest.mark.parametrize(
    "path",
    [
        "stabilityai/stable-diffusion-3.5-large-turbo",
        "/models/FLUX.1-schnell/",
        "lightx2v/Wan2.1-T2V-14B-StepDistill-CfgDistill-Lightx2v",
        "FastVideo/FastWan2.1-T2V-1.3B-Diffusers",
        "ByteDance/Hyper-SD",
        "Lightricks/LTX-Video-0.9.8-13B-distilled",
        "someone/sdxl-4step",
        "someone/sdxl_lcm",
    ],
)
def test_names_that_tell(path: str) -> None:
    assert few_step_name(path) == f"its name is {path.rstrip('/').split('/')[-1]}"


@pytest.mark.parametrize(
    "path",
    [
        "stabilityai/stable-diffusion-3.5-large",
        "Wan-AI/Wan2.1-T2V-14B-Diffusers",
        "turbo/sdxl-base",
        "/models/step-100/model",
        "someone/undistilled",
        "someone/32-step",
    ],
)
def test_names_that_do_not(path: str) -> None:
    assert few_step_name(path) == ""
