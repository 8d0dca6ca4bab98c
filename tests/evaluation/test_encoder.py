from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertConfig, BertModel, CLIPVisionConfig, CLIPVisionModel

from ddrl.errors import WeightsError
from ddrl.evaluation.measures.encoder import Encoder, load_vision_encoder
from ddrl.jobs.evaluate.features import pooled_pixels

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = CLIPVisionConfig(intermediate_size=32, image_size=24, patch_size=8, **SMALL)
        CLIPVisionModel(config).save_pretrained(folder)
    return folder


def test_features_are_the_models_own(clip: Path) -> None:
    """Pictures of the model's size are only normalised."""
    with torch.random.fork_rng(devices=[]):
        encoder = load_vision_encoder(str(clip))
        model = CLIPVisionModel.from_pretrained(clip)
    assert encoder.name == f"CLIPVisionModel {clip}, pooled features at 24 px"
    media = noise(3, 3, 24, 24)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    with torch.no_grad():
        wanted = model(pixel_values=(media - mean) / std).pooler_output
    assert encoder.features(media) == pytest.approx(wanted.numpy(), abs=1e-5)


def test_other_sizes_are_resized_and_cut_to_the_middle(clip: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        encoder = load_vision_encoder(str(clip))
    middle = noise(2, 3, 12, 12)
    wide = torch.cat([noise(2, 3, 12, 6), middle, noise(2, 3, 12, 6)], dim=3)
    whole = F.interpolate(wide, (24, 48), mode="bicubic", antialias=True).clamp(0, 1)
    wanted = encoder.features(whole[..., 12:36])
    assert encoder.features(wide) == pytest.approx(wanted, abs=1e-5)


def test_preprocessing_of_the_folder(clip: Path, tmp_path: Path) -> None:
    for file in clip.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = {"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with torch.random.fork_rng(devices=[]):
        encoder, model = load_vision_encoder(str(tmp_path)), CLIPVisionModel.from_pretrained(clip)
    media = noise(2, 3, 24, 24)
    with torch.no_grad():
        wanted = model(pixel_values=media).pooler_output
    assert encoder.features(media) == pytest.approx(wanted.numpy(), abs=1e-5)


def test_clips_are_means_over_frames() -> None:
    encoder = Encoder("pixels", pooled_pixels)
    clips = noise(2, 5, 3, 8, 8)
    frames = encoder.frames(clips)
    assert frames.shape == (2, 5, 48)
    assert frames[1, 3] == pytest.approx(pooled_pixels(clips[1, 3:4])[0])
    assert encoder.features(clips) == pytest.approx(frames.mean(1))
    assert np.isfinite(encoder.features(clips[:, 0])).all()


def test_what_is_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="can't be loaded"):
        load_vision_encoder(str(tmp_path))
    with torch.random.fork_rng(devices=[]):
        BertModel(BertConfig(intermediate_size=32, vocab_size=9, **SMALL)).save_pretrained(tmp_path)
        with pytest.raises(WeightsError, match="BertModel, which takes no pictures"):
            load_vision_encoder(str(tmp_path))
