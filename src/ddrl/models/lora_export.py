"""An adapter as diffusers reads it: the files that a pipeline's ``load_lora_weights`` takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ddrl.errors import WeightsError
from ddrl.models.diffusers_model import DiffusersModel
from ddrl.models.lora import ADAPTER, has_lora
from ddrl.models.wan_experts import WanExperts

__all__ = ["LORA_FILE", "LORA_FILE_2", "save_lora"]

LORA_FILE = "pytorch_lora_weights.safetensors"
LORA_FILE_2 = "pytorch_lora_weights_2.safetensors"
"""The second expert's: diffusers loads the two of a model apart."""


def save_lora(model: DiffusersModel, folder: Path) -> tuple[str, ...]:
    """Write the adapter; rank and alpha go with it, so that it is scaled as it was trained.

    Args:
        model: with an adapter of :func:`~ddrl.models.lora.add_lora`.
        folder: made if it is missing.

    Returns:
        The calls that load it, where ``pipeline`` is the base and ``{folder}`` stands for
        the folder.

    Raises:
        WeightsError: the model has no adapter, or diffusers can't save one for it.
    """
    from peft import get_peft_model_state_dict

    network: Any = model.transformer
    if not has_lora(network):
        raise WeightsError("The model has no adapter.", hint="save the whole pipeline instead")
    folder.mkdir(parents=True, exist_ok=True)
    if not hasattr(model.pipeline, "save_lora_weights"):
        return _save_network(network, folder)
    weights: Mapping[str, Tensor] = get_peft_model_state_dict(
        network, adapter_name=ADAPTER, save_embedding_layers=False
    )
    config = network.peft_config[ADAPTER]
    if not isinstance(network, WanExperts):
        _save(model, folder, LORA_FILE, weights, config)
        return ('pipeline.load_lora_weights("{folder}")',)
    for part, file in (("transformer.", LORA_FILE), ("transformer_2.", LORA_FILE_2)):
        _save(model, folder, file, weights, config, part=part)
    return (
        'pipeline.load_lora_weights("{folder}")',
        f'pipeline.load_lora_weights("{{folder}}", weight_name="{LORA_FILE_2}", '
        "load_into_transformer_2=True)",
    )


def _save(
    model: DiffusersModel,
    folder: Path,
    file: str,
    weights: Mapping[str, Tensor],
    config: Any,  # noqa: ANN401 - peft is untyped
    *,
    part: str = "",
) -> None:
    """Write the weights of the modules whose names start with ``part``, without that start."""
    kind = "unet" if hasattr(model.pipeline, "unet") else "transformer"
    mine = {name.removeprefix(part): w for name, w in weights.items() if name.startswith(part)}
    about = {
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        # By name: peft's own list is shortened to endings that may fit more in another network.
        "target_modules": sorted({name.split(".lora_")[0] for name in mine}),
        "use_dora": config.use_dora,
    }
    model.pipeline.save_lora_weights(
        folder,
        weight_name=file,
        **{f"{kind}_lora_layers": mine, f"{kind}_lora_adapter_metadata": about},
    )


def _save_network(network: Any, folder: Path) -> tuple[str, ...]:  # noqa: ANN401
    """Write the adapter of a network whose pipeline knows nothing of adapters.

    Raises:
        WeightsError: nor does the network.
    """
    if not hasattr(network, "save_lora_adapter"):
        raise WeightsError(
            f"diffusers can't save an adapter of a {type(network).__name__}.",
            hint="train all weights (model.lora.rank = 0), and the whole pipeline is exported",
        )
    network.save_lora_adapter(folder, adapter_name=ADAPTER, weight_name=LORA_FILE)
    return (
        f'pipeline.transformer.load_lora_adapter("{{folder}}", weight_name="{LORA_FILE}", '
        "prefix=None)",
    )
