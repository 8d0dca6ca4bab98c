"""A tiny random HPSv3 in the layout of the released one."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.rewards.tiny_videoreward import WORDS, Tiny, base_config, tokenizer
from torch import nn
from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration

from ddrl.rewards.builtin.preference.hpsv3 import FILE
from ddrl.rewards.networks.hpsv3_prompt import REWARD_TOKEN, question


def make(root: Path) -> Tiny:
    """Write base and reward."""
    base, folder = root / "base", root / "reward"
    folder.mkdir()
    words = tokenizer(question(WORDS))
    words.save_pretrained(base)
    config = base_config(words)
    config.save_pretrained(base)
    tokens = AutoTokenizer.from_pretrained(base)
    tokens.add_tokens([REWARD_TOKEN], special_tokens=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Qwen2VLForConditionalGeneration(config)
        network.resize_token_embeddings(len(tokens), mean_resizing=False)
        network.rm_head = nn.Sequential(
            *(nn.Linear(config.text_config.hidden_size, 12), nn.ReLU(), nn.Dropout(0.05)),
            *(nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 2)),
        )
        for name, parameter in network.named_parameters():
            if "norm" not in name and "ln_q" not in name:
                parameter.data.normal_(0, 0.5 if "rm_head" in name else 0.2)
    network.eval()
    save_file(old_names(network), folder / FILE)
    return Tiny(base, folder, network)


def old_names(network: nn.Module) -> dict[str, torch.Tensor]:
    """Its weights, in the names that transformers had when HPSv3 was released."""
    state = {}
    for name, value in network.state_dict().items():
        old = name.replace("model.language_model.", "model.", 1)
        state[old.replace("model.visual.", "visual.", 1)] = value.clone()
    return state
