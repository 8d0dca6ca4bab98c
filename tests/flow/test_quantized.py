"""An adapter on a base that torchao has quantised: trained, exported, read by diffusers.

No extra installs torchao (``pip install torchao``, the CPU is enough): without it this is skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline, TorchAoConfig
from tests.cli.command import ddrl
from tests.cli.test_export import FAST, difference, exported, ours, theirs, write_square
from tests.flow.diffusers_jobs import Job
from tests.models.families.test_sd3 import build_pipeline
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ddrl.runs.loaded import load_run

pytest.importorskip("torchao")
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def test_an_adapter_on_a_quantised_base(tmp_path: Path) -> None:
    from torchao.quantization import Int8WeightOnlyConfig  # type: ignore[import-not-found]

    plain = tmp_path / "plain"
    build_pipeline(tmp_path / "tokenizers").save_pretrained(plain)
    network = SD3Transformer2DModel.from_pretrained(
        plain,
        subfolder="transformer",
        quantization_config=TorchAoConfig(Int8WeightOnlyConfig()),
        dtype=torch.bfloat16,
    )
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        plain, transformer=network, dtype=torch.bfloat16
    )
    job = Job.make(tmp_path / "job", pipeline, write_square, side=16)
    listed = ddrl("doctor", "--model", job.root / "model").stdout
    assert "quantised by torchao" in listed
    job.train(tmp_path, "model.dtype=bfloat16", *FAST)
    run = load_run(tmp_path / "run")
    layer: Any = run.model.transformer.get_submodule("transformer_blocks.0.attn.to_q")
    assert is_traceable_wrapper_subclass(layer.base_layer.weight)
    out = exported(tmp_path / "run", tmp_path / "out")
    loaded = StableDiffusion3Pipeline.from_pretrained(job.root / "model", dtype=torch.bfloat16)
    base = theirs(loaded).float()
    loaded.load_lora_weights(str(out))
    image = ours(run).float()
    assert difference(base, image) > 0.02
    assert difference(theirs(loaded).float(), image) <= 0.02
    refused = ddrl("export", tmp_path / "run", "--merged", "--out", tmp_path / "merged")
    refused.failed(3, "can't be merged into a quantised network", "without --merged")
    assert not (tmp_path / "merged").exists()
