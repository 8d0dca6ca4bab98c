"""Wan2.1 text-to-video over a tiny random pipeline, saved and loaded as a user's would be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.models.families.cases import decoded
from tests.models.families.checks import Checks
from tests.models.families.wan import wan_parts

from ddrl.errors import WeightsError
from ddrl.models.families.wan.text_to_video import Wan
from ddrl.models.pretrained import load_model
from ddrl.training.forward import Forward

CASES = [wan_parts.case("wan", wan_parts.text_pipeline, Wan, decodes=decoded(guidance_scale=1.0))]


class TestWan(Checks):
    """The shared checks."""


def test_half_precision_keeps_the_vae_in_float32(folder: Path) -> None:
    model = load_model(folder, dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert model.vae.dtype == torch.float32
    # The first parameter stays in float32 whatever is loaded: it does not say what to feed.
    assert next(model.transformer.parameters()).dtype == torch.float32
    with torch.no_grad():
        velocity = Forward(model, guidance=2.0)(
            torch.ones(2, 4, 2, 2, 2), torch.tensor([0.3, 0.9]), model.encode(wan_parts.TEXTS)
        )
    assert velocity.dtype == torch.float32
    assert velocity.isfinite().all()


def test_a_missing_network_is_named(tmp_path: Path) -> None:
    wan_parts.text_pipeline(transformer=None, boundary_ratio=None).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="has only one of its two networks"):
        load_model(tmp_path)
